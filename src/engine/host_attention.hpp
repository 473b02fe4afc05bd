// Decode attention on the host, on the cache where it lies in dram: queries, keys and values of the new tokens cross to
// the host, what attention makes of them crosses back. Keys and values so far never move.
//
// A micro-batch has its last rows attended here (LayerCalls::split), those before them on the computing device. The
// work goes on beside the device's: `start` returns at once, and the event that it gives says when `attended` is there.
// One per SliceExecutor and called by its thread; owns two streams and their host memory.
// Source: FastDecode (He and Zhai 2024), FlexGen's CPU attention (Sheng et al. 2023).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "device/stream.hpp"
#include "engine/layer_calls.hpp"
#include "engine/stage_memory.hpp"
#include "engine/surroundings.hpp"
#include "engine/sweep_batches.hpp"
#include "ops/context.hpp"

namespace flexgen {

class HostAttention {
 public:
  HostAttention(const StagePlan& plan, StageMemory& memory, const LayerCalls& calls, const Surroundings& around);
  ~HostAttention();

  /// Memory of the computing device for micro-batch k of a block: query, key and value [rows, 3 * hidden], and what
  /// attention gave [rows, hidden].
  MatrixView projected(std::int32_t k, std::int32_t num_rows) const;
  MatrixView attended(std::int32_t k, std::int32_t num_rows) const;

  /// Attends for the host's rows of the batch once the queries are `ready` and what was appended to their cache before
  /// is `stored`. `layer` counts layers with a cache.
  EventPtr start(std::int32_t layer, const MicroBatch& batch, std::int32_t k, const EventPtr& ready,
                 const EventPtr& stored);

  void synchronize();

 private:
  struct Task {
    std::int32_t layer = 0;
    std::int32_t slot = 0;
    std::int32_t k = 0;
    std::int32_t first_row = 0;  // packed row of the micro-batch's last chunk
    std::vector<CacheRow> rows;
    SharedRuns shared;
    EventPtr arrived;
    EventPtr stored;  // may be null
  };
  void work_on(const Task& task);

  const StagePlan& plan_;
  StageMemory& memory_;
  const LayerCalls& calls_;
  Tracer& tracer_;
  OpContext host_;
  Stream to_host_;
  Stream attention_;
  PieceView projected_;  // [K][B, 3 * hidden], device
  PieceView attended_;   // [K][B, hidden], device
  HostPiece host_projected_;
  HostPiece host_attended_;
};

}  // namespace flexgen
