#include "policy/memory_plan.hpp"

#include <algorithm>
#include <optional>

#include "spec/block_limits.hpp"
#include "spec/sampling.hpp"

namespace flexgen {
namespace {

constexpr std::uint64_t token_bytes = 4;  // int32, and float32 of its score

template <class T>
constexpr std::int64_t index_entries = sizeof(T) / sizeof(std::int32_t);
static_assert(sizeof(SampleRow) % sizeof(std::int32_t) == 0 && sizeof(TokenAdjustment) % sizeof(std::int32_t) == 0);

CacheLayout lay_out_cache(const PlanInput& in) {
  const auto cached = std::count_if(in.slice.layers.begin(), in.slice.layers.end(),
                                    [](const auto& layer) { return layer.has_cache(); });
  const CacheShape shape{in.policy.micro_batch_size + in.policy.num_prefixes, in.model.attention.kv_heads,
                         in.model.attention.head_size, in.policy.dtype, in.policy.cache_format};
  return plan_cache(shape, static_cast<std::int32_t>(cached), cache_bands(in.policy, in.job));
}

// Bytes of the longest row's cache of one layer.
std::uint64_t longest_row_bytes(const PlanInput& in, const CacheLayout& cache) {
  return static_cast<std::uint64_t>(std::max(1, in.job.max_row_tokens)) *
         static_cast<std::uint64_t>(cache.shape.heads) * cache.shape.position_bytes();
}

// Bytes of `rows` hidden states.
std::uint64_t hidden_bytes(const PlanInput& in, std::int64_t rows) {
  return static_cast<std::uint64_t>(rows) * hidden_token_bytes(in);
}

std::uint64_t micro_batches(const PlanInput& in) { return static_cast<std::uint64_t>(in.policy.num_micro_batches); }

// What is not resident is computed with in slots of the device.
void add_slots(const PlanInput& in, MemoryPlan& plan) {
  const auto add = [&](Piece piece, std::uint64_t bytes, std::int32_t count) {
    plan.pieces.add(piece, TierKind::gpu, {bytes, static_cast<std::uint64_t>(count), piece_alignment});
  };
  add(Piece::weight_slots, plan.weights.slot_bytes, weight_slots_of(in.policy));
  add(Piece::cache_slots, plan.cache.staged_bytes, num_cache_slots);
  if (!plan.hidden.is_resident()) add(Piece::hidden_slots, plan.hidden.place_bytes, num_hidden_slots);
}

// Index arrays, cache tables and results. A GPU has them beside what the host writes and reads; on the host device
// arrays and tables are one, and all is of the gpu tier.
void add_tables(const PlanInput& in, MemoryPlan& plan) {
  const auto add = [&](Piece piece, TierKind tier, std::uint64_t bytes, std::uint64_t count) {
    plan.pieces.add(piece, tier, {bytes, count, piece_alignment});
  };
  const TierKind host_side = in.on_gpu ? TierKind::dram : TierKind::gpu;
  const std::int64_t entries = index_array_entries(in.policy, plan.max_tokens, in.job);
  const std::uint64_t tables =
      plan.cache.splits.size() * cache_table_entries(plan.cache.shape) * cache_table_entry_bytes;
  for (const TierKind tier : {TierKind::gpu, TierKind::dram}) {
    if (tier == TierKind::dram && !in.on_gpu) break;
    add(Piece::index_arrays, tier, static_cast<std::uint64_t>(entries) * token_bytes, num_index_sets);
    add(Piece::cache_tables, tier, tables, 1);
  }
  const std::uint64_t outputs =
      micro_batches(in) * static_cast<std::uint64_t>(max_outputs(in.policy, in.job)) * token_bytes;
  add(Piece::sampled_tokens, TierKind::gpu, outputs, 1);
  add(Piece::result_tokens, host_side, outputs, 1);
  if (!in.job.scores && !in.job.sampling.is_wanted) return;
  add(Piece::scores, TierKind::gpu, outputs, 1);
  add(Piece::result_scores, host_side, outputs, 1);
  const std::uint64_t alternatives = outputs * static_cast<std::uint64_t>(in.job.sampling.max_top);
  add(Piece::alternatives, TierKind::gpu, alternatives, 2);
  add(Piece::result_alternatives, host_side, alternatives, 2);
}

CallSizes largest_call(const PlanInput& in, const MemoryPlan& plan) {
  return {in.policy.micro_batch_size, std::min<std::int64_t>(plan.max_tokens, call_tokens),
          std::max(1, in.job.max_prompt_tokens), in.job.sampling.is_wanted};
}

void add_workspace(const PlanInput& in, MemoryPlan& plan) {
  if (!in.slice.workspace_bytes) return;
  const std::uint64_t bytes = in.slice.workspace_bytes(in.policy, largest_call(in, plan));
  plan.pieces.add(Piece::workspace, TierKind::gpu, {bytes, 1, piece_alignment});
}

// Every thread on which the host's ops run has a buffer: the workers of the loops, and who calls them, the slice's own
// thread where the host computes it and that of the attention on the host.
void add_host_scratch(const PlanInput& in, MemoryPlan& plan) {
  const int num_callers = (in.on_gpu ? 0 : 1) + (in.policy.uses_host_attention() ? 1 : 0);
  if (num_callers == 0 || !in.slice.host_scratch_bytes) return;
  CallSizes largest = largest_call(in, plan);
  largest.longest = std::max<std::int64_t>(largest.longest, in.job.max_row_tokens);
  const std::uint64_t bytes =
      in.slice.host_scratch_bytes(in.policy, largest, in.on_gpu ? HostCalls::decode_attention : HostCalls::all);
  const auto num_threads =
      static_cast<std::uint64_t>(in.slice.num_loop_threads) + static_cast<std::uint64_t>(num_callers) - 1;
  plan.pieces.add(Piece::host_scratch, in.on_gpu ? TierKind::dram : TierKind::gpu,
                  {align_up(bytes, piece_alignment), num_threads});
}

// A block's queries, keys, values and what attention gave, on both sides of the link.
void add_host_attention(const PlanInput& in, MemoryPlan& plan) {
  if (!in.policy.uses_host_attention()) return;
  const std::uint64_t bytes = hidden_bytes(in, in.policy.micro_batch_size);
  for (const TierKind tier : {TierKind::gpu, TierKind::dram}) {
    const std::uint64_t alignment = tier == TierKind::gpu ? piece_alignment : cache_line_bytes;
    plan.pieces.add(Piece::projected, tier, {3 * bytes, micro_batches(in), alignment});
    plan.pieces.add(Piece::attended, tier, {bytes, micro_batches(in), alignment});
  }
}

// Through the host pass: what lies on ssd on its way to a GPU, and the edges of direct I/O.
void add_disk_staging(const PlanInput& in, MemoryPlan& plan) {
  const auto add_streams = [&](Piece home, DiskPieces disk, std::uint64_t num_streams, std::uint64_t half_bytes) {
    if (!plan.pieces.has(home, TierKind::ssd)) return;
    plan.pieces.add(disk.bounce, TierKind::dram, {io_bounce_bytes, num_streams});
    if (in.on_gpu) plan.pieces.add(disk.halves, TierKind::dram, {half_bytes, 2 * num_streams});
  };
  add_streams(Piece::weights_home, disk_pieces_of_weights, 1, staging_half_bytes);
  // A half holds the longest row.
  add_streams(Piece::cache_home, disk_pieces_of_cache, 2,
              std::max(staging_half_bytes, longest_row_bytes(in, plan.cache)));
  add_streams(Piece::hidden_home, disk_pieces_of_hidden, 2, staging_half_bytes);
}

// What goes from GPU to GPU needs no place on its way.
void add_links(const PlanInput& in, MemoryPlan& plan) {
  if (in.on_gpu && !in.links.through_host) return;
  const PlannedPiece places{plan.hidden.place_bytes, num_link_places(in.policy), cache_line_bytes};
  if (in.links.receives) plan.pieces.add(Piece::received_hidden, TierKind::dram, places);
  if (in.links.sends) plan.pieces.add(Piece::sent_hidden, TierKind::dram, places);
}

constexpr std::array<TensorClass, num_tensor_classes> tensor_classes{TensorClass::weights, TensorClass::cache,
                                                                     TensorClass::hidden};
constexpr std::array<MemoryUse, num_tensor_classes> home_uses{MemoryUse::weights, MemoryUse::cache, MemoryUse::hidden};

void sum_up(const Placement& placement, MemoryPlan& plan) {
  for (auto [tier, demand] : {std::pair{TierKind::gpu, &plan.gpu}, std::pair{TierKind::dram, &plan.dram},
                              std::pair{TierKind::ssd, &plan.ssd}}) {
    for (std::size_t c = 0; c < num_tensor_classes; ++c) demand->home[c] = plan.pieces.taken_bytes(tier, home_uses[c]);
    demand->staging = plan.pieces.taken_bytes(tier, MemoryUse::staging);
    demand->workspace = plan.pieces.taken_bytes(tier, MemoryUse::workspace);
  }
  for (std::size_t c = 0; c < num_tensor_classes; ++c) {
    const Share& share = placement.of(tensor_classes[c]);
    const auto total = static_cast<double>(plan.gpu.home[c] + plan.dram.home[c] + plan.ssd.home[c]);
    plan.gpu.requested[c] = static_cast<std::uint64_t>(share.gpu() * total);
    plan.dram.requested[c] = static_cast<std::uint64_t>(share.dram() * total);
    plan.ssd.requested[c] = static_cast<std::uint64_t>(std::max(0.0, share.ssd()) * total);
  }
}

// Whether a sweep of the job can have two calls of a layer that are large enough. Whole rows make a call, so what is
// over call_tokens may be a call of few tokens; the sweep's work then decides.
bool may_use_plain_layer(const PlanInput& in, std::int64_t max_tokens) {
  if (!in.wants_plain_layer || in.policy.weight_format.is_none()) return false;
  return max_tokens >= plain_layer_tokens && (in.policy.num_micro_batches > 1 || max_tokens > call_tokens);
}

}  // namespace

std::uint64_t hidden_token_bytes(const PlanInput& input) {
  return static_cast<std::uint64_t>(input.model.hidden) * element_bytes(input.policy.dtype);
}

std::int64_t index_array_entries(const BlockShape& block, std::int64_t tokens, const JobShape& job) {
  const std::int64_t rows = block.micro_batch_size;
  std::int64_t entries = 4 * rows + (job.scores ? 4 : 2) * tokens;
  if (job.sampling.is_wanted) {
    const std::int64_t outputs = job.scores ? tokens : rows;
    entries += outputs * index_entries<SampleRow>;
    entries += rows * (1 + job.sampling.max_adjustments * index_entries<TokenAdjustment>);
  }
  if (block.num_prefixes > 0) {
    const std::int64_t spans = std::min(block.num_prefixes, job.max_prompt_tokens / prefix_grain);  // of a row
    entries += rows * (4 + spans * (1 + shared_span_entries));
  }
  return block.num_micro_batches * entries;
}

MemoryPlan plan_memory(const PlanInput& in) {
  MemoryPlan plan;
  plan.weights = plan_weights(in.slice.layers, in.policy.dtype, in.policy.placement.weights, in.policy.weight_format,
                              in.reads_dram);
  plan.cache = lay_out_cache(in);
  plan.max_tokens = micro_batch_tokens(in.policy, in.job);
  // With attention on the host, what a layer's second half will finish stays on the device, prompts beside it too.
  plan.hidden = {in.policy.placement.hidden, in.policy.num_micro_batches, hidden_bytes(in, plan.max_tokens),
                 hidden_bytes(in, in.policy.uses_host_attention() ? plan.max_tokens : in.policy.micro_batch_size)};
  plan.weights.name_home(plan.pieces);
  plan.cache.name_home(plan.pieces);
  plan.hidden.name_home(plan.pieces);
  add_slots(in, plan);
  add_tables(in, plan);
  add_workspace(in, plan);
  add_host_scratch(in, plan);
  add_host_attention(in, plan);
  add_disk_staging(in, plan);
  add_links(in, plan);
  sum_up(in.policy.placement, plan);
  return plan;
}

std::optional<PlannedPiece> plain_layer_piece(const PlanInput& in, const MemoryPlan& plan, const Budgets& budgets) {
  if (!may_use_plain_layer(in, plan.max_tokens)) return std::nullopt;
  std::uint64_t bytes = 0;
  for (const LayerDescription& layer : in.slice.layers)
    bytes = std::max(bytes, plain_layer_bytes(layer, in.policy.dtype));
  const PlannedPiece piece{bytes, 1, piece_alignment};
  if (plan.gpu.total() + piece.taken_bytes() > budgets.gpu_bytes) return std::nullopt;
  return piece;
}

MemoryPlan plan_memory(const PlanInput& in, const Budgets& budgets) {
  MemoryPlan plan = plan_memory(in);
  if (const auto piece = plain_layer_piece(in, plan, budgets)) {
    plan.pieces.add(Piece::plain_layer, TierKind::gpu, *piece);
    sum_up(in.policy.placement, plan);
  }
  return plan;
}

}  // namespace flexgen
