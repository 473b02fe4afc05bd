// The micro-batches of one sweep as the layers see them: index arrays on the computing device, cut into chunks.
//
// A chunk is a run of whole rows whose tokens fit the workspace; a layer is called once per chunk, so many prompts need
// no more scratch than few. Two sets of arrays alternate from sweep to sweep, so that the
// next sweep's can be written while the GPU still reads the last's.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "device/stream.hpp"
#include "engine/kv_cache.hpp"
#include "engine/shared_runs.hpp"
#include "engine/tier_memory.hpp"
#include "ops/batch_view.hpp"
#include "policy/memory_plan.hpp"
#include "schedule/work_list.hpp"

namespace flexgen {

/// How the tokens of outputs are chosen where any is not simply the likeliest.
struct OutputChoices {
  const SampleRow* how =
      nullptr;  // [outputs], device; null: all are the likeliest. A scored output has its target here
  const SampleRow* host_how = nullptr;     // the same on the host
  TokenAdjustment* adjustments = nullptr;  // of all of them, device
};

struct BatchChunk {
  BatchView batch;
  std::int32_t first_row = 0;                 // in the micro-batch
  std::int32_t first_token = 0;               // packed row in the micro-batch's hidden states
  const std::int32_t* token_ids = nullptr;    // [tokens], device
  const std::int32_t* positions = nullptr;    // [tokens], device
  const std::int32_t* output_rows = nullptr;  // [outputs], device, relative to the chunk
  const std::int32_t* targets = nullptr;      // [outputs], device: tokens that are scored, -1: none; null: no scores
  std::int32_t num_outputs = 0;
  std::int32_t first_output = 0;  // in the micro-batch
  SharedSpans shared;             // of its rows, all but the heads; `run` counts those of the micro-batch
  OutputChoices choices;
};

/// How rows of one token are called beside prompts. A micro-batch's prompts come first (SweepWork).
enum class DecodeCalls : std::uint8_t {
  shared,  // with them: weights are read once
  own,     // in the micro-batch's last chunk, which has them alone: it can be computed in halves
};

struct MicroBatch {
  std::int32_t slot = 0;
  std::int32_t num_tokens = 0;
  std::int32_t num_outputs = 0;
  std::vector<CacheRow> rows;
  SharedRuns shared;
  bool has_scores = false;
  std::int32_t max_top = 0;  // alternatives of an output, at most
  std::vector<BatchChunk> chunks;
};

class SweepBatches {
 public:
  /// Takes Piece::index_arrays, whose size decides what a sweep may have.
  SweepBatches(TierMemory& memory, DecodeCalls decode_calls);

  /// Lays out and uploads the sweep's arrays on `compute`; the chunks stay valid until the sweep after next.
  const std::vector<MicroBatch>& prepare(const SweepWork& work, Stream& compute);
  /// Call after the sweep's last use of the arrays was enqueued.
  void mark_used(Stream& compute);

 private:
  struct Set {
    std::int32_t* host = nullptr;
    std::int32_t* device = nullptr;  // the same on the host device
    std::vector<MicroBatch> batches;
    EventPtr used;
  };
  bool on_gpu_;
  HostPiece host_;
  std::int64_t capacity_;  // ints per set
  DecodeCalls decode_calls_;
  std::array<Set, 2> sets_;
  std::size_t turn_ = 0;
};

}  // namespace flexgen
