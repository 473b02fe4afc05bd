// Which spans each row of a batch has, from the list of what rows share: made once for all layers' calls.
//
// Plain arithmetic on arrays of the caller; any thread.
#pragma once

#include <cstdint>
#include <span>

#include "ops/batch_view.hpp"

namespace flexgen {

/// Fills the arrays of a RowSpans. `spans` in the order of SharedSpans::host_spans.
/// @param first  [num_rows + 1]
/// @param index  [sum of the spans' num_rows]
inline void list_row_spans(std::span<const SharedSpan> spans, std::int32_t num_rows, std::int32_t* first,
                           std::int32_t* index) {
  for (std::int32_t r = 0; r <= num_rows; ++r) first[r] = 0;
  for (const SharedSpan& span : spans)
    for (std::int32_t r = span.first_row; r < span.first_row + span.num_rows; ++r) ++first[r + 1];
  for (std::int32_t r = 0; r < num_rows; ++r) first[r + 1] += first[r];
  for (std::size_t s = 0; s < spans.size(); ++s)
    for (std::int32_t r = spans[s].first_row; r < spans[s].first_row + spans[s].num_rows; ++r)
      index[first[r]++] = static_cast<std::int32_t>(s);
  for (std::int32_t r = num_rows; r > 0; --r) first[r] = first[r - 1];  // each had come to where the next begins
  first[0] = 0;
}

}  // namespace flexgen
