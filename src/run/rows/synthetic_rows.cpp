#include "run/rows/synthetic_rows.hpp"

namespace flexgen {

std::optional<RowRequest> SyntheticRows::next_row() {
  if (num_left() == 0) return std::nullopt;
  const RowLengths& length = lengths_[static_cast<std::size_t>(num_made_)];
  RowRequest row;
  row.id = RowId(num_made_++);
  row.max_new_tokens = length.generated;
  row.stop_at_eos = false;
  row.prompt.reserve(static_cast<std::size_t>(length.prompt));
  for (std::int32_t t = 0; t < length.prompt; ++t) row.prompt.push_back(token_(random_));
  return row;
}

}  // namespace flexgen
