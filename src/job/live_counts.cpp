#include "job/live_counts.hpp"

#include <algorithm>

namespace flexgen {

std::optional<double> LiveValues::expected_rows() const {
  if (total_rows) return static_cast<double>(*total_rows);
  if (fraction_read <= 0 || rows_read == 0) return std::nullopt;
  return std::max(static_cast<double>(rows_read) / std::min(1.0, fraction_read), static_cast<double>(rows));
}

// Rows end in bursts, block by block, and totals of tokens are upper limits, since rows stop early: the further of the
// two is the better word.
std::optional<double> LiveValues::done_share() const {
  std::optional<double> share;
  const auto earlier = static_cast<double>(earlier_rows);
  if (const auto expected = expected_rows(); expected && *expected > earlier)
    share = (static_cast<double>(rows) - earlier) / (*expected - earlier);
  if (total_tokens && *total_tokens > 0)
    share = std::max(share.value_or(0), static_cast<double>(tokens) / static_cast<double>(*total_tokens));
  if (share) share = std::min(1.0, *share);
  return share;
}

std::optional<std::uint64_t> LiveCounts::known(const Count& count) {
  const std::uint64_t value = count.load(std::memory_order_relaxed);
  return value == unknown ? std::nullopt : std::optional(value);
}

void LiveCounts::set_total_rows(std::optional<std::uint64_t> num_rows) {
  total_rows_.store(num_rows.value_or(unknown), std::memory_order_relaxed);
}

void LiveCounts::set_total_tokens(std::optional<std::uint64_t> num_tokens) {
  total_tokens_.store(num_tokens.value_or(unknown), std::memory_order_relaxed);
}

void LiveCounts::set_fraction_read(double fraction, std::uint64_t num_rows) {
  rows_read_.store(num_rows, std::memory_order_relaxed);
  fraction_read_.store(fraction, std::memory_order_relaxed);
}

void LiveCounts::add_row(bool failed) { add(failed ? failed_rows_ : ok_rows_, 1); }

void LiveCounts::add_earlier_rows(std::uint64_t num_rows, std::uint64_t num_failed) {
  add(earlier_rows_, num_rows);
  add(failed_rows_, num_failed);
  add(ok_rows_, num_rows - num_failed);
}

void LiveCounts::add_sweep(std::uint64_t num_prompt_tokens) {
  add(sweeps_, 1);
  add(prompt_tokens_, num_prompt_tokens);
}

LiveValues LiveCounts::values() const {
  const auto read = [](const Count& count) { return count.load(std::memory_order_relaxed); };
  LiveValues values;
  values.failed_rows = read(failed_rows_);
  values.rows = values.failed_rows + read(ok_rows_);
  values.earlier_rows = std::min(read(earlier_rows_), values.rows);
  values.tokens = read(tokens_);
  values.prompt_tokens = read(prompt_tokens_);
  values.sweeps = read(sweeps_);
  values.total_rows = known(total_rows_);
  values.total_tokens = known(total_tokens_);
  values.fraction_read = fraction_read_.load(std::memory_order_relaxed);
  values.rows_read = read(rows_read_);
  return values;
}

}  // namespace flexgen
