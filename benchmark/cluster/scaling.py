#!/usr/bin/env python3
"""Measures how a pipeline scales over 1, 2, 4, ... ranks of one machine, each with an equal share of its processors.

    scaling.py --folder RUNS --program build/flexgen-dist --share 0.5 --rows 32 --rows-per-rank 8 --repeat 3 -- BENCH OPTIONS

Strong: --rows on any number of ranks. Weak: --rows-per-rank on each. Every run leaves its report and trace in the
folder; those that are there are not run again, so that a measurement goes on where it was interrupted. The best run of
each case counts: a machine with other users only ever takes time away. Writes RUNS/scaling.md, and RUNS/scaling.svg.

Busy: of each stage, between the last stage's first computation and the first stage's last: the pipeline is full then,
but for what its protocol and its links leave empty. Predicted: by simulate.py, of the run's own decode sweeps.
Standard library only.
"""

import argparse
import json
import pathlib
import subprocess
import sys

import simulate

HERE = pathlib.Path(__file__).resolve().parent
HEADER = ("| | ranks | tokens/s | of one rank | efficiency | stages busy | predicted, measured decode tokens/s | error |\n"
          "|---|---|---|---|---|---|---|---|")


def rows_of(kind, ranks, arguments):
    return arguments.rows if kind == "strong" else arguments.rows_per_rank * ranks


def command_of(kind, ranks, stem, arguments):
    rank_command = [HERE / "share.sh", str(arguments.share), arguments.program] if arguments.share else [arguments.program]
    return [
        *arguments.launcher.split(), "-n", str(ranks), *rank_command, "bench", *arguments.options, "--quiet",
        "--num-rows", str(rows_of(kind, ranks, arguments)),
        "--trace", f"{stem}.trace.json", "--report", f"{stem}.json",
    ]  # the report is written last: where it is, the run has ended


def run_what_is_missing(kind, ranks, arguments):
    """The stems of the case's runs."""
    stems = [arguments.folder / f"{kind}-{ranks}-{number}" for number in range(1, arguments.repeat + 1)]
    for stem in stems:
        if not pathlib.Path(f"{stem}.json").exists():
            print(stem.name, file=sys.stderr, flush=True)
            subprocess.run(command_of(kind, ranks, stem, arguments), check=True)
    return stems


def compute_spans(trace):
    """Seconds [begin, end) of what each rank computed, by rank."""
    lanes = {(e["pid"], e["tid"]) for e in trace["traceEvents"] if e["ph"] == "M" and e["args"]["name"] == "compute"}
    spans = {}
    for event in trace["traceEvents"]:
        if event["ph"] == "X" and (event["pid"], event["tid"]) in lanes:
            spans.setdefault(event["pid"], []).append((event["ts"] / 1e6, (event["ts"] + event["dur"]) / 1e6))
    return spans


def steady_busy(trace):
    """Of each rank, 0 to 1, while the pipeline is full."""
    spans = compute_spans(trace)
    begin = min(span[0] for span in spans[max(spans)])
    end = max(span[1] for span in spans[0])
    overlap = lambda span: max(0.0, min(span[1], end) - max(span[0], begin))
    return [sum(map(overlap, spans[rank])) / (end - begin) for rank in sorted(spans)]


def tokens_per_second(report):
    return report["throughput"]["tokens_per_second"]


def figures_of(kind, ranks, arguments):
    """Of the case's best run."""
    stems = run_what_is_missing(kind, ranks, arguments)
    best = max(stems, key=lambda stem: tokens_per_second(simulate.read(f"{stem}.json")))
    report = simulate.read(f"{best}.json")
    predicted, measured, _ = simulate.predict(report, simulate.Link(arguments.latency, arguments.bandwidth))
    busy = steady_busy(simulate.read(f"{best}.trace.json"))
    return {"kind": kind, "ranks": ranks, "speed": tokens_per_second(report), "busy": busy, "predicted": predicted,
            "measured": measured}


def table(cases):
    lines = [HEADER]
    for case in cases:
        one = next(c for c in cases if c["kind"] == case["kind"])
        ratio = case["speed"] / one["speed"]
        efficiency = ratio * one["ranks"] / case["ranks"]
        lines.append(
            f"| {case['kind']} | {case['ranks']} | {case['speed']:.1f} | {ratio:.2f} | {100 * efficiency:.0f} % | "
            f"{100 * min(case['busy']):.0f} to {100 * max(case['busy']):.0f} % | "
            f"{case['predicted']:.1f}, {case['measured']:.1f} | {100 * (case['predicted'] / case['measured'] - 1):+.1f} % |")
    return "\n".join(lines) + "\n"


def plot(cases):
    """SVG: tokens/s over ranks, relative to the fewest; dashed: as many times as there are ranks."""
    size, margin = 320, 48
    ranks = sorted({case["ranks"] for case in cases})
    most = ranks[-1] / ranks[0]
    place = lambda x, y: (margin + size * x / most, margin + size * (1 - y / most))
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{size + 2 * margin}" height="{size + 2 * margin}" '
           'font-family="sans-serif" font-size="12">']
    line = lambda points, color, extra="": out.append(
        f'<polyline fill="none" stroke="{color}" stroke-width="2" {extra} points="'
        + " ".join(f"{x:.1f},{y:.1f}" for x, y in points) + '"/>')
    text = lambda x, y, words, color="#222222": out.append(f'<text x="{x:.1f}" y="{y:.1f}" fill="{color}">{words}</text>')
    line([place(0, most), place(0, 0), place(most, 0)], "#222222")
    line([place(n / ranks[0], n / ranks[0]) for n in ranks], "#999999", 'stroke-dasharray="5 4"')
    for n in ranks:
        x, y = place(n / ranks[0], 0)
        text(x - 4, y + 16, n)
        text(margin - 24, place(0, n / ranks[0])[1] + 4, f"{n / ranks[0]:g}x")
    for row, (kind, color) in enumerate((("strong", "#0072B2"), ("weak", "#E69F00"))):
        of_kind = [case for case in cases if case["kind"] == kind]
        line([place(c["ranks"] / ranks[0], c["speed"] / of_kind[0]["speed"]) for c in of_kind], color)
        text(margin + 12, margin + 16 * (row + 1), f"{kind} scaling", color)
    text(margin + size / 2 - 16, size + 2 * margin - 12, "ranks")
    text(8, margin - 20, "tokens/s, of those of the fewest ranks")
    return "\n".join(out + ["</svg>"]) + "\n"


def require_same_options(arguments):
    """Runs of other options in the folder would be taken for these."""
    options = {"options": arguments.options, "share": arguments.share, "rows": arguments.rows,
               "rows_per_rank": arguments.rows_per_rank}
    file = arguments.folder / "options.json"
    if file.exists() and json.loads(file.read_text()) != options:
        sys.exit(f"error: {file}: the runs in this folder are of other options; name another folder")
    file.write_text(json.dumps(options, indent=1) + "\n")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="of the runs")
    parser.add_argument("--program", default="build/flexgen-dist")
    parser.add_argument("--launcher", default=str(HERE.parent.parent / "launch" / "mpirun.sh"), help="and its options")
    parser.add_argument("--ranks", type=simulate.numbers(int), default=[1, 2, 4])
    parser.add_argument("--share", type=float, default=0, help="processors of a rank; 0: ranks are not bound here")
    parser.add_argument("--rows", type=int, required=True, help="of the job, strong scaling")
    parser.add_argument("--rows-per-rank", type=int, required=True, help="weak scaling")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--latency", type=float, default=50e-6, help="of the links that are simulated, seconds")
    parser.add_argument("--bandwidth", type=float, default=1.25e9, help="of the links that are simulated, bytes a second")
    parser.add_argument("options", nargs="+", help="of flexgen-dist bench")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    require_same_options(arguments)
    cases = [figures_of(kind, ranks, arguments) for kind in ("strong", "weak") for ranks in arguments.ranks]
    (arguments.folder / "scaling.md").write_text(table(cases))
    (arguments.folder / "scaling.svg").write_text(plot(cases))
    print(table(cases), end="")


if __name__ == "__main__":
    main()
