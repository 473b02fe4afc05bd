#include "run/rows/synthetic_rows.hpp"

#include <algorithm>
#include <utility>

namespace flexgen {

SyntheticRows::SyntheticRows(std::int32_t vocab, std::vector<RowLengths> lengths, std::int64_t num_shared)
    : token_(0, vocab - 1), lengths_(std::move(lengths)) {
  std::int32_t longest = 0;
  for (const RowLengths& length : lengths_) longest = std::max(longest, length.prompt);
  for (std::int64_t t = 0; t < std::min<std::int64_t>(num_shared, longest); ++t) shared_.push_back(token_(random_));
}

std::optional<RowRequest> SyntheticRows::next_row() {
  if (num_left() == 0) return std::nullopt;
  const RowLengths& length = lengths_[static_cast<std::size_t>(num_made_)];
  RowRequest row;
  row.id = RowId(num_made_++);
  row.max_new_tokens = length.generated;
  row.stop_at_eos = false;
  row.prompt.reserve(static_cast<std::size_t>(length.prompt));
  const std::size_t num_shared = std::min(shared_.size(), static_cast<std::size_t>(length.prompt));
  row.prompt.assign(shared_.begin(), shared_.begin() + static_cast<std::ptrdiff_t>(num_shared));
  while (std::ssize(row.prompt) < length.prompt) row.prompt.push_back(token_(random_));
  return row;
}

}  // namespace flexgen
