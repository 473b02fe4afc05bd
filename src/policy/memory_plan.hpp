// What a policy needs of every tier on one rank, as named pieces, before anything is allocated or read. The engine
// takes these very pieces, so what fits here fits there. Pure arithmetic, cheap enough for a search over policies: no
// Torch, CUDA or MPI, and no layer is made.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "policy/block_limits.hpp"
#include "policy/cache_layout.hpp"
#include "policy/hidden_layout.hpp"
#include "policy/memory_pieces.hpp"
#include "policy/weight_layout.hpp"
#include "spec/model_spec.hpp"
#include "spec/policy.hpp"
#include "spec/slice_description.hpp"

namespace flexgen {

/// Buffers in flight: while one slot is computed with, the next is loaded (and a third is being stored).
inline constexpr std::int32_t num_weight_slots = 2;
/// With attention on the host a layer keeps its slot until the host is done; the loads go on in a third.
inline std::int32_t weight_slots_of(const StagePolicy& policy) {
  return policy.uses_host_attention() ? num_weight_slots + 1 : num_weight_slots;
}
inline constexpr std::int32_t num_cache_slots = 2;
inline constexpr std::int32_t num_hidden_slots = 3;
/// Host staging between disk and GPU, per direction and stream: two halves that alternate.
inline constexpr std::uint64_t staging_half_bytes = 32ULL << 20;
/// Calls of so many tokens or more are computed with plain matrices, where a layer has two of them or more in a sweep.
inline constexpr std::int64_t plain_layer_tokens = 512;
/// Aligned memory through which each stream's disk transfers pass that are not aligned themselves.
inline constexpr std::uint64_t io_bounce_bytes = 16ULL << 20;
/// One entry of the table that tells the attention op where a (row, head) lies.
inline constexpr std::uint64_t cache_table_entry_bytes = 24;
/// Entries of the index arrays that a SharedSpan takes.
inline constexpr std::int64_t shared_span_entries = 5;
/// Of one (layer, slot)'s table.
inline std::uint64_t cache_table_entries(const CacheShape& shape) {
  return static_cast<std::uint64_t>(shape.rows) * static_cast<std::uint64_t>(shape.heads);
}

/// Sets of index arrays: one sweep is under way while the next is prepared.
inline constexpr std::uint64_t num_index_sets = 2;
/// Entries, 4 bytes each, of a sweep's index arrays. Per row: offset, start, output, and the closing offset of a call
/// of its own; per token: id and position, and where it is scored output and target. Where tokens are sampled, of every
/// output a SampleRow, and of every row its adjustments and one entry that aligns those of a call. Where rows share,
/// also per row: where its own begins, start from there, its first span, and of every span the number and a SharedSpan.
/// @param tokens  of one micro-batch at most
std::int64_t index_array_entries(const BlockShape& block, std::int64_t tokens, const JobShape& job);

/// Positions of one micro-batch whose logits are wanted, at most.
inline std::int64_t max_outputs(const BlockShape& block, const JobShape& job) {
  return job.scores ? micro_batch_tokens(block, job) : block.micro_batch_size;
}

/// A stage's links to its neighbours in the pipeline, as far as they take memory.
struct HiddenLinks {
  bool receives = false;
  bool sends = false;
  bool through_host = false;  // a GPU's hidden states cross host memory on their way to the next stage
};

/// Places for hidden states of a micro-batch on their way from a stage before, and as many on their way to the next.
/// Two, so that one travels while the other is filled or emptied; where nothing runs beside anything else, one.
constexpr std::uint64_t num_link_places(const StagePolicy& policy) { return policy.overlap ? 2 : 1; }

struct PlanInput {
  ModelSpec model;
  SliceDescription slice;  // the rank's
  Policy policy;
  JobShape job;
  HiddenLinks links;
  bool on_gpu = false;             // the gpu tier is real
  bool reads_dram = true;          // the computing device can read single rows of weights that lie in dram
  bool wants_plain_layer = false;  // a layer's compressed matrices made plain once for its calls of many tokens
};

/// Bytes of one token's hidden state.
std::uint64_t hidden_token_bytes(const PlanInput& input);

/// Bytes of one tier, by what they are for.
struct TierDemand {
  std::array<std::uint64_t, num_tensor_classes> home{};       // of the pieces, by TensorClass
  std::array<std::uint64_t, num_tensor_classes> requested{};  // exact share of the class's total
  std::uint64_t staging = 0;    // slots, buffers in transit, tables, and what rounding up costs
  std::uint64_t workspace = 0;  // scratch of the ops
  std::uint64_t total() const { return home[0] + home[1] + home[2] + staging + workspace; }
};

struct MemoryPlan {
  WeightLayout weights;
  CacheLayout cache;
  HiddenLayout hidden;
  std::int64_t max_tokens = 0;  // of one micro-batch
  MemoryPieces pieces;          // all that is taken
  TierDemand gpu;               // sums over the pieces
  TierDemand dram;
  TierDemand ssd;

  const TierDemand& tier(TierKind kind) const {
    return kind == TierKind::gpu ? gpu : kind == TierKind::dram ? dram : ssd;
  }
};

/// The least that the policy needs.
MemoryPlan plan_memory(const PlanInput& input);
/// The plain layer that such a plan has besides where the job has use and the gpu tier room for it.
std::optional<PlannedPiece> plain_layer_piece(const PlanInput& input, const MemoryPlan& plan, const Budgets& budgets);
/// The least, and that layer.
MemoryPlan plan_memory(const PlanInput& input, const Budgets& budgets);

/// Empty when the plan fits; otherwise one line per tier that overflows, with the numbers.
std::string explain_misfit(const MemoryPlan& plan, const Budgets& budgets);

}  // namespace flexgen
