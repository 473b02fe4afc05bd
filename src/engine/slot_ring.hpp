// Staging memory of the computing device, in slots that are taken in turn: filled, computed with, and given back.
// For the executor's thread; the memory is the stage's.
#pragma once

#include <cstddef>
#include <vector>

#include "base/error.hpp"
#include "device/stream.hpp"

namespace flexgen {

struct StagingSlot {
  std::byte* data = nullptr;
  EventPtr loaded;
  EventPtr free;  // what was there before is not wanted any more
};

/// What a computation will use. A lane keeps them in the order of the computations: the schedule loads in the order in
/// which it computes.
struct LaneInput {
  std::byte* data = nullptr;
  StagingSlot* slot = nullptr;  // null: memory of its own, not staging
  EventPtr ready;               // null: nothing to wait for
};

class SlotRing {
 public:
  explicit SlotRing(const std::vector<std::byte*>& memory) {
    for (std::byte* data : memory) slots_.push_back({data, nullptr, nullptr});
  }

  /// The slot that was taken longest ago. Its address holds as long as the ring.
  StagingSlot& next() {
    FLEXGEN_CHECK(!slots_.empty(), "the plan has no slot for what is to be loaded");
    StagingSlot& slot = slots_[turn_];
    turn_ = (turn_ + 1) % slots_.size();
    return slot;
  }
  /// Memory of some slot, for computations whose results nobody reads; null where there is none.
  std::byte* any_memory() const { return slots_.empty() ? nullptr : slots_.front().data; }

 private:
  std::vector<StagingSlot> slots_;
  std::size_t turn_ = 0;
};

}  // namespace flexgen
