#include "text/stop_matcher.hpp"

#include <gtest/gtest.h>

#include <random>

namespace flexgen::test {
namespace {

TEST(StopMatcher, WithoutStopStringsAllIsSafe) {
  StopMatcher matcher({""});
  EXPECT_FALSE(matcher.push("abc"));
  EXPECT_EQ(matcher.safe_length(), 3u);
  EXPECT_EQ(matcher.text(), "abc");
}

TEST(StopMatcher, CutsBeforeTheStopString) {
  StopMatcher matcher({"\n\n"});
  EXPECT_FALSE(matcher.push("one\ntwo"));
  EXPECT_EQ(matcher.safe_length(), 7u);
  EXPECT_TRUE(matcher.push(" three\n\nfour\n\n"));
  EXPECT_EQ(matcher.text(), "one\ntwo three");
  EXPECT_EQ(matcher.safe_length(), matcher.text().size());
  EXPECT_TRUE(matcher.push("more"));
  EXPECT_EQ(matcher.text(), "one\ntwo three");
}

TEST(StopMatcher, SpansManyPieces) {
  StopMatcher matcher({"<|end|>", "STOP"});
  EXPECT_FALSE(matcher.push("x<"));
  EXPECT_EQ(matcher.safe_length(), 1u);
  EXPECT_FALSE(matcher.push("|e"));
  EXPECT_EQ(matcher.safe_length(), 1u);
  EXPECT_FALSE(matcher.push("nd"));
  EXPECT_FALSE(matcher.push("|"));
  EXPECT_EQ(matcher.safe_length(), 1u);
  EXPECT_TRUE(matcher.push("> tail"));
  EXPECT_EQ(matcher.text(), "x");
}

TEST(StopMatcher, FalseBeginningIsReleased) {
  StopMatcher matcher({"aab"});
  EXPECT_FALSE(matcher.push("aa"));
  EXPECT_EQ(matcher.safe_length(), 0u);
  EXPECT_FALSE(matcher.push("a"));
  EXPECT_EQ(matcher.safe_length(), 1u);
  EXPECT_FALSE(matcher.push("c"));
  EXPECT_EQ(matcher.safe_length(), 4u);
  EXPECT_TRUE(matcher.push("aaab"));
  EXPECT_EQ(matcher.text(), "aaaca");
}

TEST(StopMatcher, EarliestStopStringWins) {
  StopMatcher matcher({"late", "early"});
  EXPECT_TRUE(matcher.push("an early and a late one"));
  EXPECT_EQ(matcher.text(), "an ");
  StopMatcher first({"stop"});
  EXPECT_TRUE(first.push("stop"));
  EXPECT_EQ(first.text(), "");
}

TEST(StopMatcher, CharactersStayWhole) {
  StopMatcher matcher({"\u00E9\u00E9"});
  EXPECT_FALSE(matcher.push("x\u00E9"));
  EXPECT_EQ(matcher.safe_length(), 1u);
  EXPECT_FALSE(matcher.push("\u00E8"));  // same lead byte
  EXPECT_EQ(matcher.safe_length(), 5u);
  EXPECT_TRUE(matcher.push("\u00E9\u00E9"));
  EXPECT_EQ(matcher.text(), "x\u00E9\u00E8");
}

// Against plain search: what was called safe is never taken back, and a stop is seen as soon as it is complete.
TEST(StopMatcher, RandomPiecesAgreeWithSearch) {
  std::mt19937 generator(3);
  auto random_text = [&](int max_length) {
    std::string text;
    for (int i = static_cast<int>(generator() % max_length) + 1; i > 0; --i)
      text += static_cast<char>('a' + generator() % 2);
    return text;
  };
  for (int round = 0; round < 3000; ++round) {
    const std::vector<std::string> stops = {random_text(7), random_text(7)};
    StopMatcher matcher(stops);
    std::string all;
    std::string emitted;
    for (int step = 0; step < 12; ++step) {
      const std::string piece = random_text(4);
      all += piece;
      const std::size_t first = std::min(all.find(stops[0]), all.find(stops[1]));
      ASSERT_EQ(matcher.push(piece), first != std::string::npos);
      ASSERT_TRUE(matcher.text().starts_with(emitted));
      ASSERT_GE(matcher.safe_length(), emitted.size());
      emitted = matcher.text().substr(0, matcher.safe_length());
      if (matcher.stopped()) {
        ASSERT_EQ(emitted, all.substr(0, first));
        break;
      }
      ASSERT_EQ(matcher.text(), all);
    }
  }
}

}  // namespace
}  // namespace flexgen::test
