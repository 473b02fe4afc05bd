// What the calls of a sweep are handed, in one place: which rows of a micro-batch the computing device attends for and
// which the host, and the arguments of either's call.
//
// Pure arithmetic on what the lanes give; any thread. One per SliceExecutor, used by its lanes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/kv_cache.hpp"
#include "engine/stage_memory.hpp"
#include "engine/sweep_batches.hpp"
#include "model/decoder/attend.hpp"
#include "model/layer.hpp"

namespace flexgen {

/// The rows of a micro-batch by who attends for them. The device's come first, in the batch and in its hidden states.
struct AttentionRows {
  std::span<const CacheRow> device;
  std::span<const CacheRow> host;  // one new token each, of the last chunk; empty: all calls are whole
};

/// What any call of a layer on a micro-batch is handed.
struct LayerOperands {
  std::span<const MatrixView> weights;  // LayerCall::weights
  std::span<const MatrixView> rests;    // LayerCall::rests
  std::byte* hidden = nullptr;          // [tokens, hidden] of the whole micro-batch
  KvView cache;                         // of AttentionRows::device
};

/// The index arrays of a call of attention on the host.
struct HostArrays {
  std::vector<std::int32_t> offset;     // [rows + 1]
  std::vector<std::int32_t> start;      // [rows]
  std::vector<KvHead> heads;            // [rows * kv_heads], and then [runs * kv_heads] of what they share
  std::vector<std::int32_t> own_begin;  // [rows]
};

class LayerCalls {
 public:
  /// Keeps a reference to the plan.
  explicit LayerCalls(const StagePlan& plan);

  /// Who attends for which of a slot's `rows`: prompts first, then those that decode by `begin` (SweepWork). The host
  /// takes the last of these, if any: those whose cache lies where it attends.
  AttentionRows split(std::int32_t slot, std::span<const CacheRow> rows) const;

  /// A layer on a chunk of a micro-batch, everything on the device.
  LayerCall whole(const MicroBatch& batch, const BatchChunk& chunk, const LayerOperands& operands) const;

  /// A layer on the last chunk of a micro-batch that has rows of the host, for `Layer::project` and `finish`.
  /// @param projected, attended  [rows of the chunk, 3 * hidden] and [.., hidden], until the call is finished
  LayerCall half(const MicroBatch& batch, const LayerOperands& operands, const MatrixView& projected,
                 const MatrixView& attended) const;

  /// Attention of the host's rows. Fills the arrays that the call points to but for `heads`, which only gets its size.
  /// @param projected, attended  of these rows, host memory
  /// @param shared               of these rows; must outlive the call, too
  AttentionCall on_host(std::span<const CacheRow> rows, const SharedRuns& shared, HostArrays& arrays,
                        const MatrixView& projected, const MatrixView& attended) const;

 private:
  const StagePlan& plan_;
  std::vector<std::int32_t> first_host_position_;  // by slot: sequences from here on are attended on the host
};

}  // namespace flexgen
