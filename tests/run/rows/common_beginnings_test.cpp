#include "run/rows/common_beginnings.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "spec/block_limits.hpp"

namespace flexgen::test {
namespace {

constexpr auto grain = static_cast<std::size_t>(prefix_grain);

std::vector<std::int32_t> tokens(std::size_t common, std::size_t own, std::int32_t row) {
  std::vector<std::int32_t> ids(common + own, row);
  std::iota(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(common), 1000);
  return ids;
}

TEST(CommonBeginnings, AreCountedInWholeBlocks) {
  CommonBeginnings beginnings;
  EXPECT_EQ(beginnings.add(tokens(2 * grain + 5, 40, 1)), 0) << "the first reads all of it";
  EXPECT_EQ(beginnings.add(tokens(2 * grain + 5, 40, 2)), 2 * prefix_grain);
  EXPECT_EQ(beginnings.add(tokens(grain + 1, 3 * grain, 3)), prefix_grain);
  EXPECT_EQ(beginnings.add(tokens(grain - 1, 3 * grain, 4)), 0);
}

TEST(CommonBeginnings, ARowReadsSomethingItself) {
  CommonBeginnings beginnings;
  const std::vector<std::int32_t> prompt = tokens(2 * grain + 1, 0, 0);
  beginnings.add(prompt);
  EXPECT_EQ(beginnings.add(prompt), prefix_grain) << "all but a token is too much";
}

// The same block behind another beginning is another.
TEST(CommonBeginnings, GoFromTheFirstToken) {
  CommonBeginnings beginnings;
  std::vector<std::int32_t> one(3 * grain, 7), other = one;
  other.front() = 8;
  beginnings.add(one);
  EXPECT_EQ(beginnings.add(other), 0);
}

}  // namespace
}  // namespace flexgen::test
