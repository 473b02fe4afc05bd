// Which waiting rows enter a block, when, and where.
//
// Rolling: before every sweep, as far as places, cache and tokens of the sweep are there. Of the rows in the window the
// longest is taken that leaves the slot's other free places room for rows of the mean length: so places and cache are
// both full. Once all rows that are left stand in the window, those that make most tokens go first: what ends the job
// is short. A row that was passed over too often is next: where it fits nowhere, one slot takes nothing else until it
// does. Fixed: a block is filled in the order of the job when it is empty.
//
// Rows that begin with what a slot holds already go there before others. What of a row's beginning others that wait
// have, too, is held for them when the first of these rows enters; it goes when nobody uses it and its room is wanted.
//
// Where the source knows how many rows are left, the groups have as many each: else one would work while the other
// stages wait. Deterministic. Single-threaded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "batch/block.hpp"
#include "batch/waiting_rows.hpp"
#include "spec/block_limits.hpp"
#include "spec/policy.hpp"

namespace flexgen {

class Admission {
 public:
  Admission(const BlockShape& shape, const BlockLimits& limits);

  /// From now on of a micro-batch in a sweep.
  void limit_tokens(std::int32_t num_tokens) { num_tokens_ = num_tokens; }

  /// Rows that should be pulled ahead for it to choose from.
  std::size_t window() const;
  /// Called before every sweep of the block.
  /// @param in_flight  sequences of each group, this block's included
  void admit(Block& block, WaitingRows& rows, std::span<const std::int64_t> in_flight);

 private:
  using Row = WaitingRows::Arrival;

  static std::int64_t fair_share(std::int64_t own, std::int64_t waiting, std::span<const std::int64_t> in_flight);
  void fill(Block& block, WaitingRows& rows, std::int64_t num_idle) const;
  void refill(Block& block, WaitingRows& rows, std::int64_t num_wanted);
  enum class Lack : std::uint8_t { rows, tokens, room };
  Lack refill(SlotRows& slot, WaitingRows& rows, std::int64_t& num_wanted);
  std::optional<Row> choose(const SlotRows& slot, const WaitingRows& rows) const;
  static std::optional<Row> choose_sharing(const SlotRows& slot, const WaitingRows& rows);
  void reserve(Block& block, const WaitingRows& rows);
  bool is_overdue(const WaitingRows& rows) const;

  BlockShape shape_;
  std::int32_t num_tokens_;
  std::optional<std::int32_t> reserved_slot_;  // takes no row but the oldest
};

}  // namespace flexgen
