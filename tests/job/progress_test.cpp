#include "job/progress.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "base/log.hpp"

namespace flexgen::test {
namespace {

/// Of a run of so many seconds, with counts as given.
LiveFigures figures_of(double run_seconds, const LiveCounts& counts) {
  LiveFigures figures;
  figures.phase = JobPhase::running;
  figures.run_seconds = run_seconds;
  figures.counts = counts.values();
  return figures;
}

void add_rows(LiveCounts& counts, int num_rows) {
  for (int i = 0; i < num_rows; ++i) counts.add_row();
}

TEST(ProgressLine, AsDocumented) {
  LiveCounts counts;
  counts.set_total_rows(1200);
  EXPECT_EQ(progress_line(figures_of(0, counts)), "rows 0/1200");
  add_rows(counts, 311);
  counts.add_row(true);
  counts.add_tokens(12180);
  LiveFigures figures = figures_of(15, counts);
  figures.recent_tokens_per_second = 830;
  figures.busiest = Resource::disk_read;
  figures.busiest_fraction = 0.512;
  EXPECT_EQ(progress_line(figures),
            "rows 312/1200 (1 failed)  tokens/s 830 now, 812 overall  eta 0:43  busiest disk_read 51 %");
  figures.busiest_fraction = 0.97;
  EXPECT_EQ(progress_line(figures),
            "rows 312/1200 (1 failed)  tokens/s 830 now, 812 overall  eta 0:43  bound by disk_read 97 %");
  figures.num_ranks = 2;
  EXPECT_TRUE(progress_line(figures).ends_with("  rank 0 bound by disk_read 97 %")) << "others are not seen";
  figures.phase = JobPhase::done;
  EXPECT_EQ(progress_line(figures), "rows 312/1200 (1 failed)  tokens/s 812  time 0:15");
}

TEST(ProgressLine, TheInputsEndHasNotBeenSeen) {
  LiveCounts counts;
  counts.add_row();
  counts.add_tokens(7);
  EXPECT_EQ(progress_line(figures_of(20, counts)), "rows 1  tokens/s 0.00 now, 0.35 overall");
  counts.set_fraction_read(0.0085, 10);
  EXPECT_EQ(progress_line(figures_of(20, counts)), "rows 1/~1180  tokens/s 0.00 now, 0.35 overall  eta 6:31:50");
  counts.set_fraction_read(1, 4);
  EXPECT_EQ(progress_line(figures_of(20, counts)), "rows 1/~4  tokens/s 0.00 now, 0.35 overall  eta 1:00");
  counts.set_total_rows(4);
  EXPECT_EQ(progress_line(figures_of(20, counts)), "rows 1/4  tokens/s 0.00 now, 0.35 overall  eta 1:00");
}

TEST(ProgressLine, TokensRefineTheEtaBetweenRows) {
  LiveCounts counts;
  counts.set_total_rows(10);
  counts.set_total_tokens(1000);
  counts.add_tokens(250);
  EXPECT_TRUE(progress_line(figures_of(100, counts)).ends_with("eta 5:00"));
  add_rows(counts, 5);  // rows stopped early and are ahead of the tokens
  EXPECT_TRUE(progress_line(figures_of(100, counts)).ends_with("eta 1:40"));
}

TEST(ProgressLine, RowsOfARunBeforeSayNothingOfThePace) {
  LiveCounts counts;
  counts.set_total_rows(100);
  counts.add_earlier_rows(90, 2);
  EXPECT_EQ(progress_line(figures_of(60, counts)), "rows 90/100 (2 failed)");
  add_rows(counts, 5);
  EXPECT_EQ(progress_line(figures_of(60, counts)), "rows 95/100 (2 failed)  eta 1:00");
}

TEST(ProgressLine, LongJobsAndTheEnd) {
  LiveCounts counts;
  counts.set_total_rows(100);
  counts.add_row();
  EXPECT_EQ(progress_line(figures_of(3600, counts)), "rows 1/100  eta 99:00:00");
  add_rows(counts, 99);
  EXPECT_EQ(progress_line(figures_of(3600, counts)), "rows 100/100  time 1:00:00");
}

TEST(ProgressLine, NarrowTerminalsLoseWhatMattersLeast) {
  LiveCounts counts;
  counts.set_total_rows(1200);
  add_rows(counts, 312);
  counts.add_tokens(12180);
  LiveFigures figures = figures_of(15, counts);
  figures.busiest = Resource::compute;
  figures.busiest_fraction = 0.9;
  const std::string whole = progress_line(figures);
  const std::string rates = "rows 312/1200  tokens/s 0.00 now, 812 overall  eta 0:43";
  EXPECT_EQ(progress_line(figures, whole.size()), whole);
  EXPECT_EQ(progress_line(figures, whole.size() - 1), rates);
  EXPECT_EQ(progress_line(figures, rates.size() - 1), "rows 312/1200  eta 0:43");
  EXPECT_EQ(progress_line(figures, 20), "rows 312/1200");
  EXPECT_EQ(progress_line(figures, 6), "rows 3");
}

class ProgressDisplayTest : public ::testing::Test {
 protected:
  ProgressDisplay make(ProgressDisplay::Style style) {
    return {style, [this] { return columns_; }, [this](std::string_view text) { shown_.emplace_back(text); }};
  }

  LiveFigures at(std::uint64_t num_rows) const {
    LiveFigures figures;
    figures.phase = JobPhase::running;
    figures.counts.rows = num_rows;
    figures.counts.total_rows = 1000;
    return figures;
  }

  std::size_t columns_ = 80;
  std::vector<std::string> shown_;
};

TEST_F(ProgressDisplayTest, LinesEveryThirtySeconds) {
  ProgressDisplay display = make(ProgressDisplay::Style::lines);
  for (std::uint64_t tick = 0; tick <= 700; ++tick) display.show(at(tick), 5 + 0.1 * static_cast<double>(tick));
  EXPECT_EQ(shown_, (std::vector<std::string>{"rows 300/1000\n", "rows 600/1000\n"}));
  display.finish(at(1000));
  EXPECT_EQ(shown_.back(), "rows 1000/1000  time 0:00\n");
}

TEST_F(ProgressDisplayTest, ATerminalsLineIsRewrittenFiveTimesASecond) {
  ProgressDisplay display = make(ProgressDisplay::Style::live);
  display.show(at(1), 0);
  EXPECT_EQ(shown_, std::vector<std::string>{"\rrows 1/1000\x1b[K"});
  display.show(at(2), 0.1);
  EXPECT_EQ(shown_.size(), 1U);
  display.show(at(3), 0.25);
  EXPECT_EQ(shown_.size(), 2U);
  display.finish(at(4));
  EXPECT_EQ(shown_.back(), "\rrows 4/1000\x1b[K\n");
}

TEST_F(ProgressDisplayTest, FollowsTheTerminalsWidth) {
  ProgressDisplay display = make(ProgressDisplay::Style::live);
  display.show(at(999), 0);
  columns_ = 5;  // "rows 999/1000" now takes three lines: the two above are gone to
  display.show(at(999), 1);
  EXPECT_EQ(shown_.back(), "\x1b[2A\rrows\x1b[J");
  columns_ = 80;
  display.show(at(999), 2);
  EXPECT_EQ(shown_.back(), "\rrows 999/1000\x1b[K");
}

TEST_F(ProgressDisplayTest, WhatFollowsAFaultHasItsOwnLine) {
  ProgressDisplay live = make(ProgressDisplay::Style::live);
  live.leave();
  EXPECT_TRUE(shown_.empty()) << "nothing stands there";
  live.show(at(1), 0);
  live.leave();
  EXPECT_EQ(shown_.back(), "\n");
}

TEST_F(ProgressDisplayTest, AMessageTakesThePlaceOfTheLine) {
  const auto logged = [](const char* message) {
    testing::internal::CaptureStderr();
    log::warn(message);
    return testing::internal::GetCapturedStderr();
  };
  ProgressDisplay display = make(ProgressDisplay::Style::live);
  EXPECT_EQ(logged("before"), "warning: before\n");
  display.show(at(1), 0);
  EXPECT_EQ(logged("amid"), "\r\x1b[Kwarning: amid\n");
  display.finish(at(2));
  EXPECT_EQ(logged("after"), "warning: after\n");
}

TEST_F(ProgressDisplayTest, SilentShowsNothing) {
  ProgressDisplay display = make(ProgressDisplay::Style::silent);
  for (int second = 0; second < 100; ++second) display.show(at(1), second);
  display.finish(at(2));
  EXPECT_TRUE(shown_.empty());
}

}  // namespace
}  // namespace flexgen::test
