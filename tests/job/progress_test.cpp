#include "job/progress.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace flexgen::test {
namespace {

class ProgressTest : public ::testing::Test {
 protected:
  Progress make(ProgressOptions options) {
    return Progress(
        options, [this] { return now_; }, [this](std::string_view text) { shown_.emplace_back(text); });
  }

  double now_ = 1000;
  std::vector<std::string> shown_;
};

TEST_F(ProgressTest, LineAsDocumented) {
  Progress progress = make({1200, {}, false});
  EXPECT_EQ(progress.line(), "rows 0/1200");
  for (int i = 0; i < 311; ++i) progress.add_row();
  progress.add_row(true);
  progress.add_tokens(12180);
  now_ += 15;
  EXPECT_EQ(progress.line(), "rows 312/1200 (1 failed)  tokens/s 812  eta 0:43");
  progress.set_phase("decode");
  EXPECT_EQ(progress.line(), "decode  rows 312/1200 (1 failed)  tokens/s 812  eta 0:43");
}

TEST_F(ProgressTest, UnknownTotals) {
  Progress progress = make({});
  progress.add_row();
  progress.add_tokens(7);
  now_ += 20;
  EXPECT_EQ(progress.line(), "rows 1  tokens/s 0.35");
  progress.set_totals(4);
  EXPECT_EQ(progress.line(), "rows 1/4  tokens/s 0.35  eta 1:00");
}

TEST_F(ProgressTest, TokensRefineTheEtaBetweenRows) {
  Progress progress = make({10, 1000, false});
  progress.add_tokens(250);
  now_ += 100;
  EXPECT_EQ(progress.line(), "rows 0/10  tokens/s 2.50  eta 5:00");
  for (int i = 0; i < 5; ++i) progress.add_row();  // rows stopped early and are ahead of the tokens
  EXPECT_EQ(progress.line(), "rows 5/10  tokens/s 2.50  eta 1:40");
}

TEST_F(ProgressTest, LongJobsAndTheEnd) {
  Progress progress = make({100, {}, false});
  progress.add_row();
  now_ += 3600;
  EXPECT_EQ(progress.line(), "rows 1/100  eta 99:00:00");
  for (int i = 0; i < 99; ++i) progress.add_row();
  EXPECT_EQ(progress.line(), "rows 100/100  time 1:00:00");
}

TEST_F(ProgressTest, LinesEveryFiveSeconds) {
  Progress progress = make({100, {}, false});
  for (int tick = 0; tick < 100; ++tick) {  // 10 s in steps of 0.1 s, the clock read after each
    now_ = 1000 + 0.1 * (tick + 1);
    progress.add_row();
  }
  ASSERT_EQ(shown_.size(), 2u);
  EXPECT_EQ(shown_[0], "rows 50/100  eta 0:05\n");
  progress.finish();
  EXPECT_EQ(shown_.back(), "rows 100/100  time 0:10\n");
}

TEST_F(ProgressTest, TerminalRewritesItsLineFiveTimesASecond) {
  Progress progress = make({2, {}, true});
  progress.add_row();
  ASSERT_EQ(shown_.size(), 1u);
  EXPECT_EQ(shown_[0], "\rrows 1/2\x1b[K");
  now_ += 0.1;
  progress.refresh();
  EXPECT_EQ(shown_.size(), 1u);
  now_ += 0.15;
  progress.refresh();
  EXPECT_EQ(shown_.size(), 2u);
  progress.finish();
  EXPECT_EQ(shown_.size(), 3u);
  EXPECT_TRUE(shown_.back().starts_with("\r") && shown_.back().ends_with("\n"));
}

}  // namespace
}  // namespace flexgen::test
