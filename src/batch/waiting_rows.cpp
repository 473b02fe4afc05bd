#include "batch/waiting_rows.hpp"

#include "base/error.hpp"
#include "batch/sequence.hpp"

namespace flexgen {

std::int32_t WaitingRows::positions_of(const RowRequest& row) { return whole_grains(positions_wanted(row)); }

bool WaitingRows::pull() {
  std::optional<RowRequest> row = source_.next_row();
  if (!row) {
    has_ended_ = true;
    return false;
  }
  const std::int32_t positions = positions_of(*row);
  by_length_.emplace(positions, num_pulled_);
  by_life_.emplace(row->max_new_tokens, positions, -num_pulled_);
  sum_positions_ += positions;
  rows_.emplace_hint(rows_.end(), num_pulled_++, std::move(*row));
  return true;
}

bool WaitingRows::any() { return !rows_.empty() || pull(); }

void WaitingRows::fill() {
  while (rows_.size() < window_ && pull()) {
  }
}

std::optional<std::int64_t> WaitingRows::count() const {
  const std::optional<std::int64_t> left = source_.num_left();
  return left ? std::optional(*left + std::ssize(rows_)) : std::nullopt;
}

std::optional<WaitingRows::Arrival> WaitingRows::longest_within(std::int32_t positions) const {
  const auto longer = by_length_.lower_bound({positions + 1, 0});
  if (longer == by_length_.begin()) return std::nullopt;
  return by_length_.lower_bound({std::prev(longer)->first, 0})->second;
}

WaitingRows::Arrival WaitingRows::longest_lived_within(std::int32_t positions) const {
  for (auto row = by_life_.rbegin(); row != by_life_.rend(); ++row)
    if (std::get<1>(*row) <= positions) return -std::get<2>(*row);
  throw InternalError("all rows that wait are longer");
}

RowRequest WaitingRows::take(Arrival row) {
  const auto at = rows_.find(row);
  FLEXGEN_CHECK(at != rows_.end(), "a row was taken that does not wait");
  const std::int32_t positions = positions_of(at->second);
  by_length_.erase({positions, row});
  by_life_.erase({at->second.max_new_tokens, positions, -row});
  sum_positions_ -= positions;
  ++num_taken_;
  RowRequest request = std::move(at->second);
  rows_.erase(at);
  return request;
}

}  // namespace flexgen
