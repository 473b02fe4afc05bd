#include "job/page/report_page.hpp"

#include <gtest/gtest.h>

#include <regex>
#include <set>

#include "base/error.hpp"
#include "job/figure_file.hpp"
#include "job/page/html_text.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

RankReport busy_rank(int number) {
  RankReport rank;
  rank.rank = number;
  rank.host = "box<" + std::to_string(number) + ">";
  rank.device = "GPU & Co";
  rank.num_layers = 12;
  rank.tiers.ssd = {1 << 30, {100, 200, 300}, {100, 200, 300}, 1 << 20, 1 << 20};
  rank.resources["disk_write"] = {1, 5 << 20, 3, 1};
  rank.resources_by_phase.mixed["disk_read"] = {4, 1 << 20, 3, 4};
  rank.energy = {{"gpu", "0000:3b:00.0", "box", 1500}};
  rank.activity.seconds = {0, 1, 2, 4};
  rank.activity.busy = {{"disk_read", {0.5, 1, 0.25}}, {"compute", {0, 0.1, 0}}};
  rank.activity.rows = {1, 0, 3};
  rank.activity.tokens = {10, 0, 60};
  return rank;
}

Report sample_report() {
  Report report;
  report.version = "0.1.0";
  report.command = "generate";
  report.model = {"models/<opt> & \"friends\"", "opt", 24, 1024, 1'234'567};
  report.policy.flags = "--percent 0 100 0 100 0 100";
  report.policy.dtype = "float16";
  report.policy.gpu_batch_size = report.policy.num_gpu_batches = 2;
  report.job = {1234, 7, 1227, 99'000, 9000};
  report.timing = {3, 0, 0, 5, 4};
  report.throughput = measure_throughput(report.job, report.timing);
  report.sweeps.mixed = {20, 4, 60, 99'000, 8000};
  report.ranks = {busy_rank(0), busy_rank(1)};
  RowTally tally;
  tally.add_error("</td><script>alert(1)</script>");
  for (std::uint64_t length = 1; length < 40; ++length) tally.add_sequence(10 * length, length);
  report.rows = tally.report();
  RooflineReport& roofline = report.roofline.emplace();
  roofline.profile = "p.json";
  roofline.bound_tokens_per_second = 3000;
  roofline.fraction = 0.75;
  roofline.binding_resource = "disk";
  roofline.binding_phase = "mixed";
  roofline.advice = "more memory";
  roofline.mixed = {3, 4, {{"disk", 3, 3.5, 1 << 20, 0, 2 << 20}, {"matrix", 1, 2, 0, 5e12, 0}}};
  return report;
}

/// Tags that open and close in order; the names of all of them.
std::set<std::string> balanced_tags(const std::string& page) {
  static const std::regex tag(
      "<(/?)([a-z0-9]+)((?:\\s+[a-zA-Z-]+(?:=\"[^\"<>]*\")?)*)\\s*(/?)>|<!--[^>]*-->|<!doctype html>|<");
  static const std::set<std::string> alone{"meta"};
  std::set<std::string> names;
  std::vector<std::string> open;
  for (std::sregex_iterator at(page.begin(), page.end(), tag), end; at != end; ++at) {
    const std::smatch& match = *at;
    if (!match[2].matched) {
      EXPECT_GT(match.length(), 1) << "a bare < at " << page.substr(static_cast<std::size_t>(match.position()), 40);
      continue;
    }
    const std::string name = match[2];
    names.insert(name);
    if (alone.contains(name) || match[4].length() > 0) continue;
    if (match[1].length() == 0) {
      open.push_back(name);
    } else {
      EXPECT_FALSE(open.empty());
      if (open.empty()) return names;
      EXPECT_EQ(open.back(), name) << page.substr(static_cast<std::size_t>(match.position()), 60);
      open.pop_back();
    }
  }
  EXPECT_TRUE(open.empty());
  return names;
}

std::size_t count_of(const std::string& page, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = page.find(part); at != std::string::npos; at = page.find(part, at + 1)) ++count;
  return count;
}

TEST(ReportPage, IsWholeAndLoadsNothing) {
  const std::string page = report_page(sample_report());
  const std::set<std::string> tags = balanced_tags(page);
  for (const char* name : {"script", "link", "img", "iframe", "object", "embed", "base", "form"})
    EXPECT_FALSE(tags.contains(name)) << name;
  for (const char* part : {"http:", "https:", "url(", "@import", " src=", " href=", " onload=", "javascript"})
    EXPECT_EQ(page.find(part), std::string::npos) << part;
  EXPECT_NE(page.find("default-src 'none'"), std::string::npos);
}

TEST(ReportPage, SaysWhatTheReportSays) {
  const std::string page = report_page(sample_report());
  for (const char* part :
       {"1,234", "1,227 ok, 7 failed", "9,000", "2,250", "75 %", "10.00 MiB", "1.5 kJ", "p.json", "more memory",
        "--percent 0 100 0 100 0 100", "Rank 0", "Rank 1", "at most 30.0", "at most 1.50", "10 to 390, mean 200.0",
        "1 to 39, mean 20.0", "disk (binds)", "prefers-color-scheme:dark", "@media print"})
    EXPECT_NE(page.find(part), std::string::npos) << part;
  EXPECT_EQ(count_of(page, "<svg "),
            count_of(page, "<svg viewBox=\"0 0 1000 100\" preserveAspectRatio=\"none\" role=\"img\"><title>"))
      << "each has a title";
  EXPECT_EQ(count_of(page, "<svg "), count_of(page, "<desc>"));
  EXPECT_EQ(count_of(page, "<svg "), 2U + 4U + 1U + 2U) << "rates, two resources of two ranks, one tier, two lengths";
}

TEST(ReportPage, NoTextOfTheJobIsMarkup) {
  const std::string page = report_page(sample_report());
  EXPECT_NE(page.find("&lt;/td&gt;&lt;script&gt;alert(1)&lt;/script&gt;"), std::string::npos);
  EXPECT_NE(page.find("models/&lt;opt&gt; &amp; &quot;friends&quot;"), std::string::npos);
  EXPECT_NE(page.find("GPU &amp; Co on box&lt;1&gt;"), std::string::npos);
}

TEST(ReportPage, AReportOfLittleIsAPage) {
  Report report;
  const std::string page = report_page(report);
  balanced_tags(page);
  for (const char* absent : {"Over time", "What binds", "<h2>Memory", "<h2>Rows", "nan", "inf"})
    EXPECT_EQ(page.find(absent), std::string::npos) << absent;
}

TEST(ReportPage, IsKnownByItsBeginning) {
  const ScratchPlace folder;
  const std::string file = folder.file("report.html");
  write_report_page(sample_report(), file);
  EXPECT_EQ(file_text(file), report_page(sample_report()));
  EXPECT_NO_THROW(check_figure_file(file, FigureKind::page, "--report"));
  EXPECT_THROW(check_figure_file(file, FigureKind::report, "--report"), UserError);
  const std::string other = folder.write("other.html", "<!doctype html>\n<p>precious</p>\n");
  EXPECT_THROW(check_figure_file(other, FigureKind::page, "--report"), UserError);
}

TEST(HtmlText, EscapesAnyBytes) {
  EXPECT_EQ(html_escaped("a<b>&\"'"), "a&lt;b&gt;&amp;&quot;&#39;");
  EXPECT_EQ(html_escaped("é 漢 \xF0\x9F\x98\x80"), "é 漢 \xF0\x9F\x98\x80");
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(html_escaped(std::string_view("\0\x1b\x7f\t\n", 5)), bad + bad + bad + "\t\n");
  EXPECT_EQ(html_escaped("\xC3<"), bad + "&lt;") << "a cut character takes nothing along";
  EXPECT_EQ(html_escaped("\xED\xA0\x80"), bad + bad + bad) << "a surrogate";
  EXPECT_EQ(html_escaped("\xC0\xBC"), bad + bad) << "a longer form of <";
  EXPECT_EQ(html_escaped("\xF4\x90\x80\x80"), bad + bad + bad + bad) << "beyond Unicode";
}

TEST(HtmlText, Numbers) {
  EXPECT_EQ(grouped(0), "0");
  EXPECT_EQ(grouped(999), "999");
  EXPECT_EQ(grouped(1000), "1,000");
  EXPECT_EQ(grouped(1'234'567), "1,234,567");
  EXPECT_EQ(duration_text(0.354), "0.35 s");
  EXPECT_EQ(duration_text(43.4), "43 s");
  EXPECT_EQ(duration_text(725), "12 min 5 s");
  EXPECT_EQ(duration_text(11220), "3 h 7 min");
  EXPECT_EQ(rate_number(0.3512), "0.351");
  EXPECT_EQ(rate_number(12.06), "12.1");
  EXPECT_EQ(rate_number(1234.4), "1,234");
  EXPECT_EQ(percent_text(0.966), "97 %");
}

}  // namespace
}  // namespace flexgen::test
