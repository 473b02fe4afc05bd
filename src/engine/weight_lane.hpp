// The weights of a slice on their way to the computation: loaded a layer ahead, into the next of their slots.
//
//   loads:   wait slot free -> what lies in dram and on ssd of layer j + 1, wait copied -> event loaded
//   copies:  wait slot free -> what lies on the gpu tier of it, within the device       -> event copied
//   compute: wait loaded    -> layer j on all micro-batches                             -> event free
//
// Where the plan has room for it, what is compressed is dequantised once for the calls of many tokens (plain_layer).
// One per SliceExecutor and called by its thread.
#pragma once

#include <span>
#include <vector>

#include "base/ids.hpp"
#include "engine/plain_layer.hpp"
#include "engine/slot_ring.hpp"
#include "engine/stage_memory.hpp"
#include "engine/transfer_stream.hpp"

namespace flexgen {

class WeightLane {
 public:
  WeightLane(const StagePlan& plan, StageMemory& memory, const Surroundings& around);

  /// Fills the homes. Before the first sweep.
  void fill();
  /// Before a sweep's first layer.
  void begin_sweep(std::span<const MicroBatch> batches) { plain_layer_.begin_sweep(batches); }

  void load(LayerId layer);
  /// Before the layer's first micro-batch: makes `compute` wait for the weights, which are then those of a call.
  void take_input(LayerId layer, Stream& compute);
  /// The same without a load: of a layer whose results nobody reads.
  void take_any(LayerId layer);
  /// Where the layer's weights were last loaded to; null: they are resident. Whoever computes the last of the layer's
  /// micro-batches sets its `free`.
  StagingSlot* slot(LayerId layer) const { return layer_slot_[layer.index()]; }

  /// Of the layer that was taken last, in the order of its description.
  std::span<const MatrixView> stored() const { return stored_; }
  std::span<const MatrixView> rests() const { return rests_; }  // LayerCall::rests
  /// Whether a call on this chunk is to be preceded by `make_plain`, which enqueues on the context's stream.
  bool lacks_plain(const BatchChunk& chunk) const { return takes_plain(chunk) && !plain_layer_.is_made(); }
  void make_plain(const OpContext& context) { plain_layer_.make(context, *layer_, stored_); }
  /// What a call on this chunk is computed with.
  std::span<const MatrixView> of_call(const BatchChunk& chunk) const {
    return takes_plain(chunk) ? plain_layer_.weights() : stored();
  }

  void synchronize();

 private:
  void view(LayerId layer, std::byte* slot);
  bool takes_plain(const BatchChunk& chunk) const { return plain_layer_.takes(*layer_, chunk); }

  WeightStore& store_;
  const std::vector<LayerDescription>& layers_;
  Tracer& tracer_;
  SlotRing slots_;
  std::vector<StagingSlot*> layer_slot_;  // by layer
  const LayerDescription* layer_ = nullptr;
  std::vector<MatrixView> stored_, rests_;
  PlainLayer plain_layer_;
  TransferStream loads_;
  TransferStream copies_;
};

}  // namespace flexgen
