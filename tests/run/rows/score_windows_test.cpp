#include "run/rows/score_windows.hpp"

#include <gtest/gtest.h>

#include "base/error.hpp"

namespace flexgen::test {
namespace {

using Windows = std::vector<ScoreWindow>;

TEST(ScoreWindows, ATextThatFitsIsOneWindow) {
  EXPECT_EQ(cut_windows(8, 8, 7), (Windows{{0, 8, 7}}));
  EXPECT_EQ(cut_windows(2, 8, 7), (Windows{{0, 2, 1}}));
}

TEST(ScoreWindows, NothingToPredictNoWindow) {
  EXPECT_TRUE(cut_windows(0, 8, 7).empty());
  EXPECT_TRUE(cut_windows(1, 8, 7).empty());
}

// The next window begins with the last token of the one before, which it does not predict again.
TEST(ScoreWindows, WithStrideOneLessEveryPredictionIsMadeOnce) {
  EXPECT_EQ(cut_windows(9, 4, 3), (Windows{{0, 4, 3}, {3, 4, 3}, {6, 3, 2}}));
  EXPECT_EQ(cut_windows(7, 4, 3), (Windows{{0, 4, 3}, {3, 4, 3}}));
  EXPECT_EQ(cut_windows(8, 4, 3), (Windows{{0, 4, 3}, {3, 4, 3}, {6, 2, 1}}));
}

TEST(ScoreWindows, WithSmallerStridesOnlyNewTokensCount) {
  EXPECT_EQ(cut_windows(8, 4, 2), (Windows{{0, 4, 3}, {2, 4, 2}, {4, 4, 2}}));
  EXPECT_EQ(cut_windows(6, 4, 1), (Windows{{0, 4, 3}, {1, 4, 1}, {2, 4, 1}}));
}

TEST(ScoreWindows, EveryTokenButTheFirstCountsOnceWithSomethingBeforeIt) {
  for (std::int64_t num_tokens = 2; num_tokens < 40; ++num_tokens)
    for (std::int32_t window = 2; window < 12; ++window)
      for (std::int32_t stride = 1; stride < window; ++stride) {
        std::int64_t next = 1;
        for (const ScoreWindow& w : cut_windows(num_tokens, window, stride)) {
          EXPECT_LE(w.length, window);
          EXPECT_GE(w.num_counted, 1);
          EXPECT_LT(w.num_counted, w.length);
          EXPECT_EQ(w.first + w.length - w.num_counted, next);
          next = w.first + w.length;
        }
        EXPECT_EQ(next, num_tokens) << window << " " << stride;
      }
}

TEST(ScoreWindows, StridesThatLeaveTokensOutAreRefused) {
  EXPECT_THROW(cut_windows(9, 4, 4), InternalError);
  EXPECT_THROW(cut_windows(9, 4, 0), InternalError);
  EXPECT_THROW(cut_windows(9, 1, 1), InternalError);
}

}  // namespace
}  // namespace flexgen::test
