#include "batch/waiting_rows.hpp"

#include <algorithm>

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
  const RowRequest& waits = rows_.emplace_hint(rows_.end(), num_pulled_, std::move(*row))->second;
  // Every token of a prompt that is scored has a score of its own: it must be read for this row.
  if (beginnings_ == Beginnings::compared && !waits.score_prompt) tree_.add(num_pulled_, positions, waits.prompt);
  ++num_pulled_;
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
  const auto row = std::find_if(by_life_.rbegin(), by_life_.rend(),
                                [&](const auto& waiting) { return std::get<1>(waiting) <= positions; });
  if (row != by_life_.rend()) return -std::get<2>(*row);
  throw InternalError("all rows that wait are longer");
}

std::optional<WaitingRows::Arrival> WaitingRows::longest_lived_of(const PrefixTree::Ordered& rows,
                                                                  std::int32_t positions) const {
  std::optional<Arrival> best;
  for (const auto& [length, row] : rows) {
    if (length > positions) break;
    // Of those that live as long the longest, and of those the one that was there first.
    if (!best || rows_.at(row).max_new_tokens > rows_.at(*best).max_new_tokens ||
        (rows_.at(row).max_new_tokens == rows_.at(*best).max_new_tokens && positions_of(rows_.at(*best)) < length))
      best = row;
  }
  return best;
}

RowRequest WaitingRows::take(Arrival row) {
  const auto at = rows_.find(row);
  FLEXGEN_CHECK(at != rows_.end(), "a row was taken that does not wait");
  const std::int32_t positions = positions_of(at->second);
  by_length_.erase({positions, row});
  by_life_.erase({at->second.max_new_tokens, positions, -row});
  sum_positions_ -= positions;
  if (beginnings_ == Beginnings::compared && !at->second.score_prompt) tree_.remove(row);
  ++num_taken_;
  RowRequest request = std::move(at->second);
  rows_.erase(at);
  return request;
}

}  // namespace flexgen
