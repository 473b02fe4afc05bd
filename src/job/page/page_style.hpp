// The style of the report's page: light and dark as the reader's system is, black on white on paper.
#pragma once

#include <string_view>

namespace flexgen {

inline constexpr std::string_view page_style = R"css(
:root{color-scheme:light dark;--paper:#fff;--card:#f5f7fa;--ink:#16202c;--dim:#536070;--rule:#d5dbe3;
--tone1:#1f6fb2;--tone2:#2c8a5b;--tone3:#b26a00;--tone4:#a33a55;--pale:#bcd3e8;--bad:#a3182f}
@media (prefers-color-scheme:dark){:root{--paper:#11161d;--card:#1a212b;--ink:#e7ecf2;--dim:#a3b0c0;--rule:#303b49;
--tone1:#5aa9e6;--tone2:#58c08a;--tone3:#e5a13c;--tone4:#e6809b;--pale:#2c4a66;--bad:#ff8c9d}}
@media print{:root{--paper:#fff;--card:#fff;--ink:#000;--dim:#333;--rule:#999;
--tone1:#1f6fb2;--tone2:#2c8a5b;--tone3:#b26a00;--tone4:#a33a55;--pale:#bcd3e8;--bad:#a3182f}
section,figure,tr{break-inside:avoid}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;
-webkit-print-color-adjust:exact;print-color-adjust:exact}
main,header,footer{max-width:68rem;margin:0 auto;padding:0 1.25rem}
header{padding-top:2rem}
h1{font-size:1.6rem;line-height:1.25;margin:0;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2.5rem 0 .75rem;padding-bottom:.25rem;border-bottom:1px solid var(--rule)}
h3{font-size:1rem;margin:1.25rem 0 .25rem}
p{margin:.5rem 0;overflow-wrap:anywhere}
.dim,figcaption,.axis,th,footer{color:var(--dim)}
.bad{color:var(--bad);font-weight:600}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.75rem;margin:1.25rem 0 0;padding:0}
.tiles div{background:var(--card);border:1px solid var(--rule);border-radius:.5rem;padding:.75rem 1rem;min-width:0}
.tiles dt{color:var(--dim);font-size:.85rem}
.tiles dd{margin:0;font-size:1.45rem;line-height:1.3;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.tiles small{display:block;font-size:.85rem;color:var(--dim)}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr));gap:0 2rem}
figure{margin:.5rem 0 0}
figcaption{display:flex;justify-content:space-between;gap:1rem;font-size:.85rem}
figcaption span:last-child{text-align:right;font-variant-numeric:tabular-nums}
svg{display:block;width:100%;background:var(--card);border-bottom:1px solid var(--rule)}
.strip svg{height:2.5rem}.tall svg{height:8rem}.bar svg{height:.9rem;border-radius:.2rem}
.tone1{fill:var(--tone1)}.tone2{fill:var(--tone2)}.tone3{fill:var(--tone3)}.tone4{fill:var(--tone4)}.pale{fill:var(--pale)}
.axis{display:flex;justify-content:space-between;font-size:.8rem;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}
th{text-align:right;font-weight:600;vertical-align:bottom}
td{text-align:right;white-space:nowrap}
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--rule)}
th:first-child,td:first-child{text-align:left;padding-left:0;white-space:normal}
tr.binds td{font-weight:700}
code{font-family:ui-monospace,"SFMono-Regular",Menlo,Consolas,monospace;font-size:.9em;overflow-wrap:anywhere}
summary{cursor:pointer;font-weight:600;margin-top:1rem;overflow-wrap:anywhere}
summary:focus-visible,.scroll:focus-visible{outline:3px solid var(--tone1);outline-offset:2px}
footer{margin-top:3rem;padding-bottom:2rem;font-size:.85rem}
)css";

}  // namespace flexgen
