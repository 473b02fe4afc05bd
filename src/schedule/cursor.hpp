// Where a sweep stands, and what comes next: the one place that wraps indices around.
#pragma once

#include <cstdint>
#include <optional>

#include "base/ids.hpp"

namespace flexgen {

struct SweepShape {
  std::int32_t num_layers = 0;         // of the slice; >= 1
  std::int32_t num_micro_batches = 0;  // of this sweep; >= 1
};

/// A (layer, micro-batch) pair of a sweep, in zig-zag order: across the block, then down the layers.
class Cursor {
 public:
  explicit Cursor(SweepShape shape) : shape_(shape) {}

  LayerId layer() const { return layer_; }
  MicroBatchId micro_batch() const { return micro_batch_; }

  bool at_last_layer() const { return layer_.value + 1 == shape_.num_layers; }
  bool at_last_micro_batch() const { return micro_batch_.value + 1 == shape_.num_micro_batches; }
  bool at_end() const { return at_last_layer() && at_last_micro_batch(); }

  /// The layer below, wrapping to the first layer of the next sweep.
  LayerId next_layer() const { return LayerId(at_last_layer() ? 0 : layer_.value + 1); }

  /// The next pair of this sweep; none at the end.
  std::optional<Cursor> next() const {
    if (at_end()) return std::nullopt;
    Cursor following = *this;
    if (at_last_micro_batch()) {
      following.micro_batch_ = MicroBatchId(0);
      following.layer_ = next_layer();
    } else {
      following.micro_batch_ = MicroBatchId(micro_batch_.value + 1);
    }
    return following;
  }

 private:
  SweepShape shape_;
  LayerId layer_;
  MicroBatchId micro_batch_;
};

}  // namespace flexgen
