// What rows of a micro-batch share: the runs of its cache slot that several of them begin with, each listed once, and
// which rows have them (ops/batch_view.hpp).
//
// Plain data and arithmetic on it; any thread. Empty where nothing is shared.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/kv_cache.hpp"
#include "ops/batch_view.hpp"
#include "schedule/work_list.hpp"

namespace flexgen {

struct SharedRuns {
  std::vector<CacheRow> runs;     // by the first row that has them; nothing is added to them
  std::vector<SharedSpan> spans;  // SharedSpans::host_spans; `run` is an index of `runs`

  bool any() const { return !spans.empty(); }
  /// Those of the first `num_rows` rows.
  std::span<const CacheRow> runs_of_first(std::int32_t num_rows) const;
  /// The spans of rows first .. first + num_rows - 1, which are counted from 0 then.
  std::vector<SharedSpan> spans_of(std::int32_t first, std::int32_t num_rows) const;
  /// All that there is of these rows.
  SharedRuns part(std::int32_t first, std::int32_t num_rows) const;
};

/// `rows`: of a micro-batch, in its order. Neighbours that share have a span together where they bring one token each.
SharedRuns shared_runs(std::span<const RowWork* const> rows);

/// The row as the cache sees it in this sweep.
CacheRow cache_row_of(const RowWork& row);

}  // namespace flexgen
