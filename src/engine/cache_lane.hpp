// The KV cache of a slice on its way to the computation and home: loaded a micro-batch ahead, stored behind it.
//
//   loads:   wait slot free, stored -> positions so far of (j, k + 1)    -> event loaded
//   compute: wait loaded            -> layer j on k appends and attends  -> event computed
//   stores:  wait computed          -> new positions of (j, k)           -> event stored, and the slot is free
//
// What lies on the gpu tier, and what the host attends for where it lies, never moves. A sweep loads the first cache of
// the next one. One per SliceExecutor and called by its thread.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "base/ids.hpp"
#include "engine/cache_tables.hpp"
#include "engine/layer_calls.hpp"
#include "engine/slot_ring.hpp"
#include "engine/stage_memory.hpp"
#include "engine/transfer_stream.hpp"
#include "schedule/work_list.hpp"

namespace flexgen {

class CacheLane {
 public:
  CacheLane(const StagePlan& plan, StageMemory& memory, const LayerCalls& calls, const Surroundings& around);

  /// Before a sweep's first call.
  void begin_sweep(const SweepWork& work);

  void load(LayerId layer, const MicroBatch& batch);
  /// Loads what the next sweep is likely to want first.
  void load_next_sweeps();
  /// Of the next computation; empty where nothing is staged. Valid, as is `view`, until the next is taken.
  const LaneInput& take_input(LayerId layer, const MicroBatch& batch);
  /// Any memory for a computation whose results nobody reads.
  void take_any();
  /// The cache of the rows that the device attends for, in the input taken last; empty for layers without a cache. What
  /// changed of its tables is enqueued on `compute`.
  KvView view(LayerId layer, const MicroBatch& batch, Stream& compute);
  void store(LayerId layer, const MicroBatch& batch, const EventPtr& computed);

  bool has(LayerId layer) const { return index_[layer.index()] >= 0; }
  /// The layer's number among those with a cache.
  std::int32_t index(LayerId layer) const { return index_[layer.index()]; }
  /// When what was appended last to a layer's cache slot is home; may be null.
  EventPtr& stored(LayerId layer, std::int32_t slot);

  void synchronize();

 private:
  // The first micro-batch of a group's next sweep, as its last one leaves it.
  struct RowsToCome {
    RowsToCome() = default;
    explicit RowsToCome(const MicroBatchWork& batch);
    std::int32_t slot = 0;  // of the cache
    std::vector<CacheRow> rows;
    SharedRuns shared;
  };
  // The cache of a sweep's first cached layer and first micro-batch, loaded by the sweep before.
  struct Early {
    LayerId layer;
    std::int32_t slot = 0;  // of the cache
    std::vector<CacheRow> rows;
    StagingSlot* stage = nullptr;
  };
  bool is_staged(LayerId layer, const MicroBatch& batch) const;
  StagingSlot& start_load(LayerId layer, std::int32_t where, std::vector<CacheRow> rows);
  StagingSlot* take_early(LayerId layer, std::int32_t slot, std::span<const CacheRow> rows);

  KvCache& store_;
  const LayerCalls& calls_;
  std::vector<std::int32_t> index_;  // by layer; -1: no cache
  SlotRing slots_;
  std::deque<LaneInput> inputs_;
  LaneInput input_;               // taken last
  std::vector<EventPtr> stored_;  // by (cache layer, cache slot)
  CacheTables tables_;
  GroupId group_;                         // of this sweep
  std::vector<RowsToCome> rows_to_come_;  // by group
  std::optional<Early> early_;
  TransferStream loads_;
  TransferStream stores_;
};

}  // namespace flexgen
