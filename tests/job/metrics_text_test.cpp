// Read by the rules of Prometheus' text format 0.0.4, and by those of its names.
#include "job/metrics_text.hpp"

#include <gtest/gtest.h>

#include <map>
#include <regex>
#include <set>
#include <sstream>

namespace flexgen::test {
namespace {

/// Series as written ("name{label=\"value\"}") -> value.
using Series = std::map<std::string, double>;

class StrictReader {
 public:
  Series read(const std::string& text) {
    EXPECT_TRUE(text.ends_with('\n'));
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) read_line(line);
    EXPECT_TRUE(help_.empty()) << "HELP without TYPE";
    return series_;
  }

 private:
  void read_line(const std::string& line) {
    static const std::regex help(R"(# HELP ([a-z_:][a-z0-9_:]*) [^\\]+\.)"),
        type(R"(# TYPE ([a-z_:][a-z0-9_:]*) (counter|gauge))"),
        sample(
            R"re(([a-z_:][a-z0-9_:]*)(\{[a-z_]+="(?:[^"\\\n]|\\\\|\\"|\\n)*"(?:,[a-z_]+="(?:[^"\\\n]|\\\\|\\"|\\n)*")*\})? ([0-9.e+-]+))re");
    std::smatch match;
    if (std::regex_match(line, match, help)) {
      EXPECT_TRUE(help_.empty());
      help_ = match[1];
    } else if (std::regex_match(line, match, type)) {
      EXPECT_EQ(match[1], help_) << "HELP and TYPE stand together";
      help_.clear();
      family_ = match[1];
      EXPECT_TRUE(families_.insert(family_).second) << family_ << " stands in two places";
      EXPECT_EQ(family_.ends_with("_total"), match[2] == "counter") << line;
      EXPECT_TRUE(family_.starts_with("flexgen_"));
    } else if (std::regex_match(line, match, sample)) {
      EXPECT_EQ(match[1], family_) << "a sample stands below its TYPE";
      EXPECT_TRUE(series_.emplace(match[1].str() + match[2].str(), std::stod(match[3])).second) << line;
    } else {
      ADD_FAILURE() << "no line of the format: " << line;
    }
  }

  std::string help_, family_;
  std::set<std::string> families_;
  Series series_;
};

LiveFigures sample_figures() {
  LiveFigures figures;
  figures.version = "0.1.0";
  figures.command = "generate";
  figures.model = "opt-30b";
  figures.phase = JobPhase::running;
  figures.num_ranks = 2;
  figures.run_seconds = 50;
  figures.counts.rows = 40;
  figures.counts.failed_rows = 4;
  figures.counts.total_rows = 100;
  figures.counts.tokens = 123'456'789'012;
  figures.counts.prompt_tokens = 999;
  figures.counts.sweeps = 17;
  figures.recent_tokens_per_second = 12.5;
  figures.resources[static_cast<std::size_t>(Resource::disk_read)] = {9'000'000'000, 4096, 3, 2'500'000'000};
  figures.tiers[2] = {1000, 10, 20};
  return figures;
}

TEST(MetricsText, IsOfTheFormatAndSaysWhatIsKnown) {
  const Series series = StrictReader().read(metrics_text(sample_figures()));
  EXPECT_EQ(series.at("flexgen_rows_total{result=\"ok\"}"), 36);
  EXPECT_EQ(series.at("flexgen_rows_total{result=\"failed\"}"), 4);
  EXPECT_EQ(series.at("flexgen_input_rows"), 100);
  EXPECT_EQ(series.at("flexgen_tokens_total{kind=\"generated\"}"), 123'456'789'012) << "to the last token";
  EXPECT_EQ(series.at("flexgen_tokens_total{kind=\"prompt\"}"), 999);
  EXPECT_EQ(series.at("flexgen_tokens_per_second{window=\"10s\"}"), 12.5);
  EXPECT_EQ(series.at("flexgen_sweeps_total"), 17);
  EXPECT_EQ(series.at("flexgen_eta_seconds"), 75);
  EXPECT_EQ(series.at("flexgen_ranks"), 2);
  EXPECT_EQ(series.at("flexgen_job_phase{phase=\"running\"}"), 1);
  EXPECT_EQ(series.at("flexgen_job_phase{phase=\"loading\"}"), 0);
  EXPECT_EQ(series.at("flexgen_resource_busy_seconds_total{rank=\"0\",resource=\"disk_read\"}"), 2.5);
  EXPECT_EQ(series.at("flexgen_resource_bytes_total{rank=\"0\",resource=\"disk_read\"}"), 4096);
  EXPECT_EQ(series.at("flexgen_tier_capacity_bytes{rank=\"0\",tier=\"ssd\"}"), 1000);
  EXPECT_EQ(series.at("flexgen_tier_used_bytes{rank=\"0\",tier=\"ssd\"}"), 10);
  EXPECT_EQ(series.at("flexgen_tier_peak_bytes{rank=\"0\",tier=\"ssd\"}"), 20);
}

TEST(MetricsText, WhatIsNotKnownHasNoLine) {
  const Series series = StrictReader().read(metrics_text(LiveFigures{}));
  EXPECT_FALSE(series.contains("flexgen_input_rows"));
  EXPECT_FALSE(series.contains("flexgen_eta_seconds"));
  EXPECT_EQ(series.at("flexgen_job_phase{phase=\"loading\"}"), 1);
}

TEST(MetricsText, LabelsMayHoldAnything) {
  LiveFigures figures = sample_figures();
  figures.model = "a\\b\"c\nd{}é";
  const Series series = StrictReader().read(metrics_text(figures));
  EXPECT_TRUE(series.contains(R"(flexgen_job_info{version="0.1.0",command="generate",model="a\\b\"c\nd{}é"})"));
}

TEST(MetricsText, ScoredTokensAreNotGeneratedOnes) {
  LiveFigures figures = sample_figures();
  figures.command = "score";
  const Series series = StrictReader().read(metrics_text(figures));
  EXPECT_TRUE(series.contains("flexgen_tokens_total{kind=\"scored\"}"));
  EXPECT_FALSE(series.contains("flexgen_tokens_total{kind=\"generated\"}"));
}

}  // namespace
}  // namespace flexgen::test
