// What a policy needs of every tier on one rank, before anything is allocated or read. The engine allocates from the
// same plan, so what fits here fits there. Pure arithmetic: no Torch, CUDA or MPI.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "policy/cache_layout.hpp"
#include "policy/weight_layout.hpp"
#include "spec/layer_description.hpp"
#include "spec/model_spec.hpp"
#include "spec/policy.hpp"

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
/// Tokens that one call of a layer may have: rows are never cut, so one long row may pass it.
inline constexpr std::int64_t chunk_tokens = 4096;
/// Calls of so many tokens or more are computed with plain matrices, where a layer has two of them or more in a sweep.
inline constexpr std::int64_t plain_layer_tokens = 512;
/// Aligned memory through which each stream's disk transfers pass that are not aligned themselves.
inline constexpr std::uint64_t io_bounce_bytes = 16ULL << 20;
/// One entry of the table that tells the attention op where a (row, head) lies.
inline constexpr std::uint64_t cache_table_entry_bytes = 24;

/// Bytes of one [micro-batch rows, hidden] matrix: a micro-batch's hidden states while it decodes.
inline std::uint64_t row_bytes(const BlockShape& block, const ModelSpec& model) {
  return static_cast<std::uint64_t>(block.micro_batch_size) * static_cast<std::uint64_t>(model.hidden) *
         element_bytes(block.dtype);
}
/// The same of a whole block: attention on the host keeps its queries, keys, values and results.
inline std::uint64_t block_row_bytes(const BlockShape& block, const ModelSpec& model) {
  return static_cast<std::uint64_t>(block.num_micro_batches) * row_bytes(block, model);
}

/// Entries, 4 bytes each, of a sweep's index arrays. Per row: offset, start, output, and the closing offset of a chunk
/// of its own; per token: id and position, and where it is scored output and target.
inline std::int64_t index_array_entries(std::int64_t num_micro_batches, std::int64_t rows, std::int64_t tokens,
                                        bool scores) {
  return num_micro_batches * (4 * rows + (scores ? 4 : 2) * tokens);
}
/// Of two sweeps, one under way while the next is prepared.
inline std::uint64_t index_array_bytes(std::int64_t num_micro_batches, std::int64_t rows, std::int64_t tokens,
                                       bool scores) {
  return 2 * (static_cast<std::uint64_t>(index_array_entries(num_micro_batches, rows, tokens, scores)) * 4 + 4096);
}

/// Positions of one micro-batch whose logits are wanted, at most.
inline std::int64_t max_outputs(const BlockShape& block, const JobShape& job) {
  return block.micro_batch_size * (job.scores ? std::max<std::int64_t>(1, job.max_prompt_tokens) : 1);
}

struct PlanInput {
  ModelSpec model;
  std::vector<LayerDescription> layers;  // of the rank's slice
  Policy policy;
  JobShape job;
  std::int32_t num_groups = 1;     // blocks in flight: at least the number of stages
  bool on_gpu = false;             // the gpu tier is real
  bool reads_dram = true;          // the computing device can read single rows of weights that lie in dram
  bool wants_plain_layer = false;  // a layer's compressed matrices made plain once for its calls of many tokens
  /// Scratch of the ops for one call of `rows` rows and `tokens` tokens.
  std::function<std::uint64_t(std::int64_t rows, std::int64_t tokens)> workspace_bytes;
};

/// Bytes of one tier, by what they are for.
struct TierDemand {
  std::array<std::uint64_t, num_tensor_classes> home{};       // achieved, by TensorClass
  std::array<std::uint64_t, num_tensor_classes> requested{};  // exact share of the class's total
  std::uint64_t staging = 0;                                  // slots and buffers in transit
  std::uint64_t workspace = 0;                                // scratch of the ops
  std::uint64_t total() const { return home[0] + home[1] + home[2] + staging + workspace; }
};

struct MemoryPlan {
  WeightLayout weights;
  CacheLayout cache;
  std::int64_t max_tokens = 0;     // of one micro-batch
  std::uint64_t hidden_bytes = 0;  // of one micro-batch at max_tokens
  std::uint64_t workspace_bytes = 0;
  std::uint64_t cache_staging_half_bytes = 0;  // holds the longest row on ssd
  std::uint64_t host_staging_bytes = 0;
  std::uint64_t plain_layer_bytes = 0;  // of the largest layer's matrices made plain; 0: there is none
  TierDemand gpu;
  TierDemand dram;
  TierDemand ssd;
};

/// The least that the policy needs.
MemoryPlan plan_memory(const PlanInput& input);
/// The same and, where the gpu tier has room left for it and the job use, a plain layer.
MemoryPlan plan_memory(const PlanInput& input, const Budgets& budgets);

/// Empty when the plan fits; otherwise one line per tier that overflows, with the numbers.
std::string explain_misfit(const MemoryPlan& plan, const Budgets& budgets);

/// The nearest policy that fits: keeps B and K and moves weights, cache and hidden states down the tiers; when that is
/// not enough, halves K, then B. Throws UserError (does_not_fit) when not even one row from ssd fits.
Policy nearest_fit(const PlanInput& input, const Budgets& budgets);

/// Throws UserError (does_not_fit) with the numbers and the nearest policy that fits, as flags.
void require_fit(const PlanInput& input, const Budgets& budgets);

}  // namespace flexgen
