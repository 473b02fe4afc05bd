// Runs the calls of the zig-zag on a slice: loads ahead and stores behind on streams of their own, everything ordered
// by events. With overlap off, the same calls on streams that work in the caller: nothing runs beside anything else.
//
//   weights stream:     wait slot free          -> load layer j + 1       -> event
//   weight copies:      wait slot free          -> its part on the device -> event
//   cache loads:        wait slot free, stored  -> load (j, k + 1)        -> event
//   hidden loads:       wait slot free, stored  -> load or receive k + 1  -> event
//   compute (caller):   wait the three events   -> layer j on k           -> event
//   cache, hidden stores: wait computed         -> store or send k        -> event
//
// Each kind of data has a lane with its streams, slots and events: weights, cache, hidden states, outputs. What is here
// is the computation between them. One thread calls it. Errors of a stream surface in the caller at the next wait for
// one of its events.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "device/stream.hpp"
#include "engine/cache_lane.hpp"
#include "engine/hidden_lane.hpp"
#include "engine/host_attention.hpp"
#include "engine/layer_calls.hpp"
#include "engine/neighbours.hpp"
#include "engine/output_lane.hpp"
#include "engine/stage_memory.hpp"
#include "engine/surroundings.hpp"
#include "engine/weight_lane.hpp"
#include "model/layer.hpp"
#include "ops/context.hpp"
#include "schedule/executor.hpp"
#include "schedule/work_list.hpp"

namespace flexgen {

class SliceExecutor final : public Executor {
 public:
  /// Keeps references to all but the sinks; `around` may go.
  SliceExecutor(const StagePlan& plan, const Layers& layers, StageMemory& memory, Neighbours& neighbours,
                const Surroundings& around, OutputSinks sinks);

  /// Fills the homes of the weights. Before the first sweep.
  void fill_weights() { weights_.fill(); }

  /// On a GPU, computes one layer of each kind at the job's largest shape of prompts and of single tokens, on whatever
  /// lies in memory: what libraries and driver do at a first call is then done. Before the first sweep.
  void warm_up();

  /// Call before a sweep's first call; `work` may go.
  void begin_sweep(const SweepWork& work);
  /// Call after a sweep's last call.
  void end_sweep();
  /// Waits until everything has been done; rethrows errors of any stream.
  void synchronize();

  void load_weights(LayerId layer) override { weights_.load(layer); }
  void load_cache(LayerId layer, MicroBatchId k) override { cache_.load(layer, batch(k)); }
  void load_hidden(LayerId layer, MicroBatchId k) override { hidden_.load(layer, k, batch(k)); }
  void load_next_sweeps_cache() override { cache_.load_next_sweeps(); }
  void compute(LayerId layer, MicroBatchId k) override;
  void store_cache(LayerId layer, MicroBatchId k) override { cache_.store(layer, batch(k), computed_); }
  void store_hidden(LayerId layer, MicroBatchId k) override { hidden_.store(layer, k, batch(k), computed_); }

 private:
  // A layer's call whose attention the host is at.
  struct HalfDone {
    LayerId layer;
    LayerCall call;
    std::vector<MatrixView> weights;  // of the call
    StagingSlot* slot = nullptr;      // they lie in; null: resident. Who finishes last frees it
    EventPtr attended;
  };

  // What the time of the thread that computes goes into.
  struct TimeUse {
    WaitTimes* waits;                     // null: nobody asks
    std::optional<StreamSpan> computing;  // what is under way
  };

  const MicroBatch& batch(MicroBatchId k) const { return batches_[k.index()]; }
  const Layer& layer_of(LayerId layer) const { return *layers_[layer.index()]; }
  bool is_last(LayerId layer) const { return layer.index() + 1 == layers_.size(); }
  bool is_last(MicroBatchId k) const { return k.index() + 1 == batches_.size(); }
  bool nothing_waits_for(LayerId layer, const LaneInput& hidden, const LaneInput& cache) const;
  void await_inputs(LayerId layer, MicroBatchId k, const LaneInput& hidden, const LaneInput& cache);
  LayerOperands operands_of(LayerId layer, MicroBatchId k, std::byte* hidden);
  void compute_chunks(LayerId layer, MicroBatchId k, const LayerOperands& operands, std::span<const BatchChunk> chunks);
  void make_plain(LayerId layer);
  LayerCall half_call(MicroBatchId k, const LayerOperands& operands) const;
  void compute_half(LayerId layer, MicroBatchId k, const LayerOperands& operands);
  void finish_half_done(MicroBatchId k);
  MicroBatchWork rows_of_shape(std::int32_t num_rows, std::int32_t start, std::int32_t count) const;
  void warm_up_rows(const MicroBatchWork& rows);
  void warm_up_layer(LayerId layer);
  void end_call();

  const StagePlan& plan_;
  const Layers& layers_;
  SweepBatches& index_arrays_;
  const LayerCalls calls_;
  Stream compute_;
  OpContext context_;
  WeightLane weights_;
  CacheLane cache_;
  OutputLane output_;
  HiddenLane hidden_;
  std::unique_ptr<HostAttention> host_attention_;   // null: attention is where the rest is
  std::vector<std::optional<HalfDone>> half_done_;  // by micro-batch
  TimeUse time_;
  EventPtr computed_;                    // the last computation that something waits for
  std::span<const MicroBatch> batches_;  // of the sweep
};

}  // namespace flexgen
