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
// One thread calls it. Errors of a stream surface in the caller at the next wait for one of its events.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/trace.hpp"
#include "device/stream.hpp"
#include "engine/cache_tables.hpp"
#include "engine/host_attention.hpp"
#include "engine/neighbours.hpp"
#include "engine/plain_layer.hpp"
#include "engine/stage_memory.hpp"
#include "engine/transfer.hpp"
#include "model/layer.hpp"
#include "ops/context.hpp"
#include "schedule/executor.hpp"
#include "schedule/work_list.hpp"

namespace flexgen {

class SliceExecutor final : public Executor {
 public:
  /// Called with each micro-batch's tokens on the last stage, from the hidden-store stream's thread.
  using TokenSink = std::function<void(SampledTokens)>;
  /// The same for the logits behind them: [outputs, vocab] float32, host memory.
  using LogitsSink = std::function<void(std::int64_t sweep, MicroBatchId, std::span<const float> logits)>;

  SliceExecutor(const StagePlan& plan, const Layers& layers, StageMemory& memory, Neighbours& neighbours,
                const Device& device, Backend backend, Tracer& tracer, TokenSink token_sink, LogitsSink logits_sink,
                const std::function<void(std::exception_ptr)>& on_stream_error);

  ~SliceExecutor() override;

  /// Fills the homes of the weights. Before the first sweep.
  void fill_weights();

  /// On a GPU, computes one layer of each kind at the job's largest prefill and decode shape, on whatever lies in
  /// memory: what libraries and driver do at a first call is then done. Before the first sweep.
  void warm_up();

  /// Call before a sweep's first call; `work` is copied.
  void begin_sweep(const SweepWork& work);
  /// Call after a sweep's last call.
  void end_sweep();
  /// Waits until everything has been done; rethrows errors of any stream.
  void synchronize();

  void load_weights(LayerId layer) override;
  void load_cache(LayerId layer, MicroBatchId k) override;
  void load_hidden(LayerId layer, MicroBatchId k) override;
  void load_next_sweeps_cache() override;
  void compute(LayerId layer, MicroBatchId k) override;
  void store_cache(LayerId layer, MicroBatchId k) override;
  void store_hidden(LayerId layer, MicroBatchId k) override;

 private:
  // Staging memory of the device that is filled, computed with, and given back.
  struct Slot {
    std::byte* data = nullptr;
    EventPtr loaded;
    EventPtr free;
  };
  // What a computation will use, in the order of the computations: the schedule loads in the order in which it
  // computes.
  struct Input {
    std::byte* data = nullptr;
    Slot* slot = nullptr;  // null: memory of its own, not staging
    EventPtr ready;
  };

  // A layer's call whose attention the host is at.
  struct HalfDone {
    LayerId layer;
    LayerCall call;
    std::vector<MatrixView> weights;  // of the call
    Slot* slot = nullptr;             // they lie in; null: resident
    EventPtr attended;
  };

  // The first micro-batch of a group's next sweep, as its last one leaves it.
  struct RowsToCome {
    std::int32_t slot = 0;  // of the cache
    std::vector<CacheRow> rows;
  };
  // The cache of a sweep's first cached layer and first micro-batch, loaded by the sweep before.
  struct EarlyCache {
    LayerId layer;
    std::int32_t slot = 0;  // of the cache
    std::vector<CacheRow> rows;
    Slot* stage = nullptr;
  };

  std::array<Stream*, 6> side_streams();
  const MicroBatch& batch(MicroBatchId k) const { return (*batches_)[k.index()]; }
  bool is_first(LayerId layer) const { return layer.value == 0; }
  bool is_last(LayerId layer) const { return layer.index() + 1 == layers_.size(); }
  bool is_cached(LayerId layer) const { return cache_index_[layer.index()] >= 0; }
  bool is_staged(LayerId layer, MicroBatchId k) const;
  bool nothing_waits_for(LayerId layer) const;
  bool on_host(MicroBatchId k) const { return host_attention_ && host_attention_->takes(batch(k).rows); }
  std::span<const CacheRow> device_rows(std::span<const CacheRow> all) const;
  Slot& start_cache_load(LayerId layer, std::int32_t where, std::span<const CacheRow> rows);
  Slot* take_early_cache(LayerId layer, std::int32_t slot, std::span<const CacheRow> rows);
  std::uint64_t hidden_bytes(const MicroBatch& batch) const;
  EventPtr& cache_stored(LayerId layer, std::int32_t slot);
  void view_weights(LayerId layer, std::byte* slot);
  KvView cache_view(LayerId layer, MicroBatchId k, std::byte* stage);
  LayerCall chunk_call(const BatchChunk& chunk, MicroBatchId k, std::byte* hidden, const KvView& cache);
  LayerCall half_call(MicroBatchId k, std::byte* hidden, const KvView& cache);
  void compute_chunks(const Layer& layer, MicroBatchId k, std::byte* hidden, const KvView& cache);
  void make_plain(const Layer& layer);
  void compute_half(const Layer& layer, LayerId id, MicroBatchId k, const KvView& cache, Slot* weights);
  void finish_half_done(MicroBatchId k);
  void warm_up_shape(std::int32_t start, std::int32_t count);
  void deliver_tokens(MicroBatchId k);
  void end_call(Stream& stream);

  const StagePlan& plan_;
  const Layers& layers_;
  StageMemory& memory_;
  Neighbours& neighbours_;
  TokenSink token_sink_;
  LogitsSink logits_sink_;  // empty: logits are not kept
  OpContext context_;

  Stream compute_;
  Stream weight_loads_;
  Stream weight_copies_;  // within the device
  Stream cache_loads_;
  Stream cache_stores_;
  Stream hidden_loads_;
  Stream hidden_stores_;
  Transfer weight_transfer_;
  Transfer weight_copier_;
  Transfer cache_load_transfer_;
  Transfer cache_store_transfer_;
  Transfer hidden_load_transfer_;
  Transfer hidden_store_transfer_;

  std::unique_ptr<HostAttention> host_attention_;   // null: attention is where the rest is
  std::vector<std::optional<HalfDone>> half_done_;  // by micro-batch
  std::vector<std::int32_t> cache_index_;           // by layer: its number among the layers with a cache, or -1
  std::vector<Slot> weight_slots_, cache_slots_, hidden_slots_;
  std::size_t weight_turn_ = 0, cache_turn_ = 0, hidden_turn_ = 0;
  std::vector<Slot*> layer_slot_;         // by layer: the slot its weights were last loaded to
  std::vector<MatrixView> weight_views_;  // of the layer being computed
  std::vector<MatrixView> weight_rests_;  // of the same: LayerCall::rests
  PlainLayer plain_layer_;                // of the same layer
  std::deque<Input> cache_inputs_, hidden_inputs_;
  Input cache_, hidden_;  // of the last computation, for its stores
  EventPtr computed_;
  std::optional<StreamSpan> span_;      // of the computation under way
  std::vector<EventPtr> cache_stored_;  // by (cache layer, cache slot)
  CacheTables cache_tables_;
  std::vector<RowsToCome> rows_to_come_;  // by group
  std::optional<EarlyCache> early_cache_;
  std::vector<EventPtr> hidden_stored_;  // by micro-batch: home, sent, or turned into tokens
  std::size_t max_outputs_;              // of a micro-batch
  Buffer host_tokens_;  // [num_micro_batches * max_outputs] int32, where the last stage's tokens arrive
  Buffer host_scores_;  // the same, float32; empty where none are wanted
  Buffer logits_;       // [rows, vocab] float32 on the device, when they are wanted
  const std::vector<MicroBatch>* batches_ = nullptr;
  SweepWork work_;
};

}  // namespace flexgen
