// The sequences of a block in flight: K slots that lie beside each other.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "batch/slot_rows.hpp"

namespace flexgen {

/// Where a sequence lives in its block.
struct Place {
  std::int32_t micro_batch = 0;  // 0 .. K-1
  std::int32_t cache_row = 0;    // 0 .. B-1
};

class Block {
 public:
  /// @param first_slot  of the engine's cache slots, the one of micro-batch 0; the others follow it
  /// @param num_places  B
  /// @param spaces      of its K slots
  /// @param num_prefixes  of each slot (SlotRows)
  Block(std::int32_t first_slot, std::int32_t num_places, std::span<const CacheSpace> spaces,
        std::int32_t num_prefixes = 0) {
    for (const CacheSpace& space : spaces)
      slots_.emplace_back(first_slot + static_cast<std::int32_t>(slots_.size()), num_places, space, num_prefixes);
  }

  std::int32_t first_slot() const { return slots_.front().number(); }
  std::vector<SlotRows>& slots() { return slots_; }
  SlotRows& slot(std::int32_t micro_batch) { return slots_.at(static_cast<std::size_t>(micro_batch)); }
  Sequence& at(Place place) { return slot(place.micro_batch).at(place.cache_row); }

  bool is_empty() const { return num_sequences() == 0; }
  std::int64_t num_sequences() const { return sum(&SlotRows::num_sequences); }
  /// Positions of the cache that its sequences hold, and what they share.
  std::int64_t num_held() const { return sum(&SlotRows::num_held); }
  /// Whether any of them goes on after the sweep under way, unless it stops before.
  bool wants_more() const { return std::ranges::any_of(slots_, &SlotRows::wants_more); }

 private:
  std::int64_t sum(std::int32_t (SlotRows::*count)() const) const {
    std::int64_t total = 0;
    for (const SlotRows& slot : slots_) total += (slot.*count)();
    return total;
  }

  std::vector<SlotRows> slots_;  // [K]
};

}  // namespace flexgen
