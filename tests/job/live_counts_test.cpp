#include "job/live_counts.hpp"

#include <gtest/gtest.h>

#include <thread>

namespace flexgen::test {
namespace {

TEST(LiveCounts, CountsWhatIsTold) {
  LiveCounts counts;
  EXPECT_FALSE(counts.values().total_rows);
  EXPECT_FALSE(counts.values().done_share());
  counts.set_total_rows(10);
  counts.set_total_tokens(200);
  counts.add_row();
  counts.add_row(true);
  counts.add_earlier_rows(3, 1);
  counts.add_tokens(7);
  counts.add_tokens(5);
  counts.add_sweep(100);
  const LiveValues values = counts.values();
  EXPECT_EQ(values.rows, 5U);
  EXPECT_EQ(values.failed_rows, 2U);
  EXPECT_EQ(values.earlier_rows, 3U);
  EXPECT_EQ(values.tokens, 12U);
  EXPECT_EQ(values.sweeps, 1U);
  EXPECT_EQ(values.prompt_tokens, 100U);
  EXPECT_EQ(values.total_tokens, 200U);
  EXPECT_DOUBLE_EQ(*values.done_share(), 2.0 / 7);
  counts.set_total_rows({});
  EXPECT_FALSE(counts.values().total_rows);
  EXPECT_DOUBLE_EQ(*counts.values().done_share(), 12.0 / 200);
}

TEST(LiveCounts, ExpectsRowsByWhatHasBeenRead) {
  LiveCounts counts;
  counts.set_fraction_read(0.25, 100);
  EXPECT_DOUBLE_EQ(*counts.values().expected_rows(), 400);
  counts.set_fraction_read(1.5, 100);  // a file that grows
  EXPECT_DOUBLE_EQ(*counts.values().expected_rows(), 100);
  for (int i = 0; i < 120; ++i) counts.add_row();
  EXPECT_DOUBLE_EQ(*counts.values().expected_rows(), 120) << "never less than are done";
  EXPECT_LE(*counts.values().done_share(), 1);
}

TEST(LiveCounts, NothingIsLostBetweenThreads) {
  LiveCounts counts;
  std::uint64_t last = 0;
  std::thread engine([&] {
    for (int i = 0; i < 20000; ++i) {
      counts.add_tokens(1);
      if (i % 10 == 0) counts.add_row(i % 20 == 0);
    }
  });
  while (last < 20000) {
    const LiveValues now = counts.values();
    EXPECT_GE(now.tokens, last);
    EXPECT_LE(now.failed_rows, now.rows);
    last = now.tokens;
  }
  engine.join();
  EXPECT_EQ(counts.values().rows, 2000U);
  EXPECT_EQ(counts.values().failed_rows, 1000U);
}

}  // namespace
}  // namespace flexgen::test
