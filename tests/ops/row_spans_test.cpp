// Which spans a row has, from a list in the order of SharedSpans.
#include "ops/row_spans.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace flexgen::test {
namespace {

TEST(RowSpans, AreListedRootFirst) {
  // rows 1 .. 4 have a trunk, 1 and 2 a branch of it, 4 another; row 6 has a span of its own
  const std::vector<SharedSpan> spans{{1, 4, 0, 128, 0}, {1, 2, 128, 64, 1}, {4, 1, 128, 64, 2}, {6, 1, 0, 64, 3}};
  std::vector<std::int32_t> first(9, -7), index(8, -7);
  list_row_spans(spans, 8, first.data(), index.data());
  EXPECT_EQ(first, (std::vector<std::int32_t>{0, 0, 2, 4, 5, 7, 7, 8, 8}));
  EXPECT_EQ(index, (std::vector<std::int32_t>{0, 1, 0, 1, 0, 0, 2, 3}));
}

TEST(RowSpans, RowsThatShareNothingHaveNone) {
  std::vector<std::int32_t> first(4, -7);
  list_row_spans({}, 3, first.data(), nullptr);
  EXPECT_EQ(first, (std::vector<std::int32_t>{0, 0, 0, 0}));
}

}  // namespace
}  // namespace flexgen::test
