#include "job/row_tally.hpp"

#include <gtest/gtest.h>

#include <numeric>

namespace flexgen::test {
namespace {

TEST(RowTally, ErrorsByTheirCode) {
  RowTally tally;
  for (const char* code : {"invalid_json", "duplicate_id", "invalid_json"}) tally.add_error(code);
  EXPECT_EQ(tally.num_errors(), 3U);
  EXPECT_EQ(tally.report().errors, (std::map<std::string, std::uint64_t>{{"duplicate_id", 1}, {"invalid_json", 2}}));
  EXPECT_EQ(tally.report().prompt.count, 0U);
}

TEST(RowTally, LengthsOfFewTokensHaveABinEach) {
  RowTally tally;
  tally.add_sequence(7, 0);
  tally.add_sequence(5, 3);
  tally.add_sequence(7, 3);
  const RowsReport report = tally.report();
  EXPECT_EQ(report.prompt.least, 5U);
  EXPECT_EQ(report.prompt.most, 7U);
  EXPECT_DOUBLE_EQ(report.prompt.mean, 19.0 / 3);
  EXPECT_EQ(report.prompt.first, 5U);
  EXPECT_EQ(report.prompt.bin_tokens, 1U);
  EXPECT_EQ(report.prompt.bins, (std::vector<std::uint64_t>{1, 0, 2}));
  EXPECT_EQ(report.generated.bins, (std::vector<std::uint64_t>{1, 0, 0, 2}));
}

TEST(RowTally, BinsAreRoundAndFewAndHoldEveryLength) {
  for (const std::uint64_t most : {23U, 24U, 25U, 99U, 480U, 2048U, 131072U}) {
    LengthTally tally;
    std::uint64_t count = 0;
    for (std::uint64_t length = 3; length <= most; length += 1 + most / 500, ++count) tally.add(length);
    tally.add(most);
    const LengthDistribution d = tally.distribution();
    EXPECT_EQ(d.count, count + 1);
    EXPECT_EQ(std::accumulate(d.bins.begin(), d.bins.end(), std::uint64_t{0}), d.count);
    EXPECT_LE(d.bins.size(), LengthTally::most_bins) << most;
    EXPECT_GT(d.bins.size(), LengthTally::most_bins / 3) << most;
    EXPECT_EQ(d.first % d.bin_tokens, 0U);
    EXPECT_LE(d.first, d.least);
    EXPECT_LT(d.most, d.first + d.bin_tokens * d.bins.size());
    EXPECT_GT(d.bins.front(), 0U);
    EXPECT_GT(d.bins.back(), 0U);
  }
}

}  // namespace
}  // namespace flexgen::test
