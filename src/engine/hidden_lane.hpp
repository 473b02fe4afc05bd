// Hidden states between two layers of a slice and between slices: home and back, or to and from the neighbouring stage.
//
//   loads:   wait slot free, stored -> load or receive k + 1                                -> event ready
//   compute: wait ready             -> layer j on k, in place                               -> event computed
//   stores:  wait computed          -> store or send k, or take away what came of it        -> event stored
//
// States that stay on the device through a sweep are neither loaded nor stored. A model's last layer leaves outputs in
// the place of hidden states: OutputLane delivers them on the stream of the stores. One per SliceExecutor and called by
// its thread.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "base/ids.hpp"
#include "engine/neighbours.hpp"
#include "engine/output_lane.hpp"
#include "engine/slot_ring.hpp"
#include "engine/stage_memory.hpp"
#include "engine/transfer_stream.hpp"

namespace flexgen {

class HiddenLane {
 public:
  HiddenLane(const StagePlan& plan, StageMemory& memory, Neighbours& neighbours, OutputLane& output,
             const Surroundings& around);

  /// What this layer computes on comes from the stage before.
  bool receives(LayerId layer) const { return is_first(layer) && neighbours_.has_upstream(); }
  void load(LayerId layer, MicroBatchId k, const MicroBatch& batch);
  /// Of the next computation. Valid until the next is taken.
  const LaneInput& take_input();
  /// Memory for micro-batch 0 of a computation whose results nobody reads.
  std::byte* any_memory(const MicroBatch& batch) const;
  void store(LayerId layer, MicroBatchId k, const MicroBatch& batch, const EventPtr& computed);

  /// Makes `compute` wait until what the sweep before left in the places that the outputs of k will take is away.
  void await_output_places(MicroBatchId k, Stream& compute) const;

  void synchronize();

 private:
  bool is_first(LayerId layer) const { return layer.value == 0; }
  bool is_last(LayerId layer) const { return layer.index() + 1 == num_layers_; }
  std::uint64_t bytes_of(const MicroBatch& batch) const;

  HiddenStore& store_;
  Neighbours& neighbours_;
  OutputLane& output_;
  std::size_t num_layers_;
  std::uint64_t token_bytes_;
  SlotRing slots_;
  std::deque<LaneInput> inputs_;
  LaneInput input_;               // taken last
  bool overlaps_;                 // with the computation
  std::vector<EventPtr> stored_;  // by micro-batch: home, sent, or turned into tokens
  TransferStream loads_;
  TransferStream stores_;
};

}  // namespace flexgen
