// What rows of a micro-batch share, as attention is told.
#include "engine/shared_runs.hpp"

#include <gtest/gtest.h>

#include <tuple>

namespace flexgen::test {
namespace {

using Span = std::tuple<std::int32_t, std::int32_t, std::int32_t, std::int32_t, std::int32_t>;
using Spans = std::vector<Span>;  // first row, rows, begin, length, run

constexpr SharedRun trunk{8, 256, 128}, part_of_trunk{8, 256, 64}, branch{9, 512, 64}, other{10, 640, 64};

RowWork row_of(std::vector<SharedRun> shared, std::size_t count = 1) {
  RowWork row;
  row.tokens.resize(count);
  row.shared = std::move(shared);
  row.start = row.own_begin() + 5;
  return row;
}

SharedRuns runs_of(const std::vector<RowWork>& rows) {
  std::vector<const RowWork*> each;
  for (const RowWork& row : rows) each.push_back(&row);
  return shared_runs(each);
}

Spans listed(const std::vector<SharedSpan>& spans) {
  Spans list;
  for (const SharedSpan& span : spans)
    list.emplace_back(span.first_row, span.num_rows, span.begin, span.length, span.run);
  return list;
}

std::vector<std::int32_t> begins(std::span<const CacheRow> runs) {
  std::vector<std::int32_t> list;
  for (const CacheRow& run : runs) list.push_back(run.begin);
  return list;
}

// Two prompts, one row that shares nothing, and five that decode.
const std::vector<RowWork> rows{
    row_of({trunk}, 7),      row_of({trunk, branch}, 3), row_of({}),     row_of({part_of_trunk}), row_of({trunk}),
    row_of({trunk, branch}), row_of({trunk, branch}),    row_of({other})};

TEST(SharedRuns, NeighboursThatDecodeHaveASpanTogether) {
  const SharedRuns shared = runs_of(rows);
  EXPECT_EQ(begins(shared.runs), (std::vector{256, 512, 640}));
  EXPECT_EQ(shared.runs[0].start, 128) << "the longest part of it that is wanted";
  EXPECT_EQ(shared.runs[0].count, 0);
  EXPECT_EQ(listed(shared.spans), (Spans{{0, 1, 0, 128, 0},
                                         {1, 1, 0, 128, 0},
                                         {1, 1, 128, 64, 1},
                                         {3, 1, 0, 64, 0},
                                         {4, 3, 0, 128, 0},
                                         {5, 2, 128, 64, 1},
                                         {7, 1, 0, 64, 2}}));
  EXPECT_FALSE(runs_of({row_of({}), row_of({})}).any());
}

TEST(SharedRuns, ABranchOfAnotherTrunkIsAnotherSpan) {
  EXPECT_EQ(listed(runs_of({row_of({trunk, branch}), row_of({other, branch})}).spans),
            (Spans{{0, 1, 0, 128, 0}, {0, 1, 128, 64, 1}, {1, 1, 0, 64, 2}, {1, 1, 64, 64, 1}}));
}

TEST(SharedRuns, ThoseOfSomeRows) {
  const SharedRuns shared = runs_of(rows);
  EXPECT_TRUE(begins(shared.runs_of_first(0)).empty());
  EXPECT_EQ(begins(shared.runs_of_first(1)), std::vector{256});
  EXPECT_EQ(begins(shared.runs_of_first(7)), (std::vector{256, 512}));
  EXPECT_EQ(listed(shared.spans_of(4, 2)), (Spans{{0, 2, 0, 128, 0}, {1, 1, 128, 64, 1}}));
  const SharedRuns last = shared.part(6, 2);
  EXPECT_EQ(listed(last.spans), (Spans{{0, 1, 0, 128, 0}, {0, 1, 128, 64, 1}, {1, 1, 0, 64, 2}}));
  const SharedRuns end = shared.part(7, 1);
  EXPECT_EQ(begins(end.runs), std::vector{640});
  EXPECT_EQ(listed(end.spans), (Spans{{0, 1, 0, 64, 0}}));
}

TEST(SharedRuns, OwnPositionsCountFromWhereSharingEnds) {
  const CacheRow row = cache_row_of(rows[5]);
  EXPECT_EQ(row.own_begin, 192);
  EXPECT_EQ(row.start, 5);
  EXPECT_EQ(row.count, 1);
}

}  // namespace
}  // namespace flexgen::test
