#include "run/rows/synthetic_rows.hpp"

namespace flexgen {

std::optional<RowRequest> SyntheticRows::next_row() {
  if (num_left() == 0) return std::nullopt;
  RowRequest row;
  row.id = RowId(num_made_++);
  row.max_new_tokens = shape_.max_new_tokens;
  row.stop_at_eos = false;
  for (std::int32_t t = 0; t < shape_.max_prompt_tokens; ++t) row.prompt.push_back(token_(random_));
  return row;
}

}  // namespace flexgen
