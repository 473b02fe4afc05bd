#include "engine/shared_runs.hpp"

#include <algorithm>

namespace flexgen {
namespace {

// Of a span that is open to the rows that follow.
struct Entry {
  SharedRun run;
  std::size_t span = 0;
};

std::int32_t index_of(const SharedRun& shared, std::vector<CacheRow>& runs) {
  auto at = std::ranges::find(runs, shared.cache_begin, &CacheRow::begin);
  if (at == runs.end()) at = runs.insert(at, {shared.cache_row, shared.cache_begin, 0, 0});
  at->start = std::max(at->start, shared.length);
  return static_cast<std::int32_t>(at - runs.begin());
}

}  // namespace

CacheRow cache_row_of(const RowWork& row) {
  const std::int32_t own_begin = row.own_begin();
  return {row.cache_row, row.cache_begin, row.start - own_begin, row.count(), own_begin};
}

SharedRuns shared_runs(std::span<const RowWork* const> rows) {
  SharedRuns shared;
  std::vector<Entry> open, of_row;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const RowWork& row = *rows[r];
    std::int32_t begin = 0;
    of_row.clear();
    for (std::size_t i = 0; i < row.shared.size(); ++i) {
      const SharedRun& run = row.shared[i];
      const bool goes_on = row.count() == 1 && of_row.size() == i && i < open.size() && open[i].run == run &&
                           (i == 0 || of_row[i - 1].span == open[i - 1].span);
      if (goes_on) {
        ++shared.spans[open[i].span].num_rows;
        of_row.push_back(open[i]);
      } else {
        of_row.push_back({run, shared.spans.size()});
        shared.spans.push_back({static_cast<std::int32_t>(r), 1, begin, run.length, index_of(run, shared.runs)});
      }
      begin += run.length;
    }
    if (row.count() == 1) open.swap(of_row);
    else open.clear();
  }
  return shared;
}

std::span<const CacheRow> SharedRuns::runs_of_first(std::int32_t num_rows) const {
  std::size_t count = 0;
  for (const SharedSpan& span : spans)
    if (span.first_row < num_rows) count = std::max(count, static_cast<std::size_t>(span.run) + 1);
  return std::span(runs).first(count);
}

std::vector<SharedSpan> SharedRuns::spans_of(std::int32_t first, std::int32_t num_rows) const {
  std::vector<SharedSpan> part;
  for (SharedSpan span : spans) {
    const std::int32_t begin = std::max(span.first_row, first);
    const std::int32_t end = std::min(span.first_row + span.num_rows, first + num_rows);
    if (begin >= end) continue;
    span.first_row = begin - first;
    span.num_rows = end - begin;
    part.push_back(span);
  }
  return part;
}

SharedRuns SharedRuns::part(std::int32_t first, std::int32_t num_rows) const {
  SharedRuns part;
  part.spans = spans_of(first, num_rows);
  for (SharedSpan& span : part.spans) {
    const CacheRow& run = runs[static_cast<std::size_t>(span.run)];
    auto at = std::ranges::find(part.runs, run.begin, &CacheRow::begin);
    if (at == part.runs.end()) at = part.runs.insert(at, run);
    span.run = static_cast<std::int32_t>(at - part.runs.begin());
  }
  return part;
}

}  // namespace flexgen
