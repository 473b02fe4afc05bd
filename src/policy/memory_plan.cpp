#include "policy/memory_plan.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/bytes.hpp"
#include "base/error.hpp"

namespace flexgen {
namespace {

void set_class(MemoryPlan& plan, TensorClass tensor_class, const Share& share, std::uint64_t gpu, std::uint64_t dram,
               std::uint64_t ssd) {
  const auto c = static_cast<std::size_t>(tensor_class);
  const auto total = static_cast<double>(gpu + dram + ssd);
  plan.gpu.home[c] = gpu;
  plan.dram.home[c] = dram;
  plan.ssd.home[c] = ssd;
  plan.gpu.requested[c] = static_cast<std::uint64_t>(share.gpu() * total);
  plan.dram.requested[c] = static_cast<std::uint64_t>(share.dram() * total);
  plan.ssd.requested[c] = static_cast<std::uint64_t>(std::max(0.0, share.ssd()) * total);
}

CacheShape cache_shape(const PlanInput& in) {
  return {in.policy.micro_batch_size,
          in.model.attention.kv_heads,
          in.model.attention.head_size,
          std::max(1, in.job.max_row_tokens),
          in.policy.dtype,
          in.policy.cache_format};
}

// Index arrays, cache tables, sampled tokens, and what aligning every piece of the tier costs.
std::uint64_t bookkeeping_bytes(const PlanInput& in, std::int64_t cached_layers, std::int64_t max_tokens) {
  const auto k = static_cast<std::uint64_t>(in.policy.num_micro_batches);
  const auto rows = static_cast<std::uint64_t>(in.policy.micro_batch_size);
  const std::uint64_t index_arrays =
      index_array_bytes(in.policy.num_micro_batches, in.policy.micro_batch_size, max_tokens, in.job.scores);
  const std::uint64_t tables = static_cast<std::uint64_t>(cached_layers) * k *
                               static_cast<std::uint64_t>(in.num_groups) * rows *
                               static_cast<std::uint64_t>(in.model.attention.kv_heads) * cache_table_entry_bytes;
  const std::uint64_t pieces = in.layers.size() + k + 32;
  const std::uint64_t outputs = 2 * k * static_cast<std::uint64_t>(max_outputs(in.policy, in.job)) * 4;
  return index_arrays + tables + outputs + pieces * 4096;
}

// Whether a sweep of the job can have two calls of a layer that are large enough. Whole rows make a call, so what is
// over chunk_tokens may be a call of few tokens; the sweep's work then decides.
bool may_use_plain_layer(const PlanInput& in, std::int64_t max_tokens) {
  if (!in.wants_plain_layer || in.policy.weight_format.is_none()) return false;
  return max_tokens >= plain_layer_tokens && (in.policy.num_micro_batches > 1 || max_tokens > chunk_tokens);
}

}  // namespace

MemoryPlan plan_memory(const PlanInput& in) {
  const Placement& placement = in.policy.placement;
  MemoryPlan plan;
  plan.weights = plan_weights(in.layers, in.policy.dtype, placement.weights, in.policy.weight_format, in.reads_dram);
  set_class(plan, TensorClass::weights, placement.weights, plan.weights.gpu_bytes, plan.weights.dram_bytes,
            plan.weights.ssd_bytes);

  const auto cached = std::count_if(in.layers.begin(), in.layers.end(), [](const auto& l) { return l.has_cache(); });
  const std::int32_t num_slots = in.policy.num_micro_batches * in.num_groups;
  plan.cache = plan_cache(cache_shape(in), static_cast<std::int32_t>(cached), num_slots, placement.cache,
                          in.policy.uses_host_attention() ? in.model.attention.kv_heads : 1);
  set_class(plan, TensorClass::cache, placement.cache, plan.cache.gpu_bytes(), plan.cache.dram_bytes(),
            plan.cache.ssd_bytes());

  plan.max_tokens = static_cast<std::int64_t>(in.policy.micro_batch_size) * std::max(1, in.job.max_prompt_tokens);
  plan.hidden_bytes = static_cast<std::uint64_t>(plan.max_tokens) * static_cast<std::uint64_t>(in.model.hidden) *
                      element_bytes(in.policy.dtype);
  // One sweep runs at a time on a rank, so its block's hidden states are all there is.
  const std::uint64_t hidden_total = plan.hidden_bytes * static_cast<std::uint64_t>(in.policy.num_micro_batches);
  const auto hidden_part = [&](double fraction) {
    return static_cast<std::uint64_t>(std::max(0.0, fraction) * static_cast<double>(hidden_total));
  };
  const std::uint64_t hidden_gpu = hidden_part(placement.hidden.gpu());
  const std::uint64_t hidden_dram =
      placement.hidden.ssd() < 1e-9 ? hidden_total - hidden_gpu : hidden_part(placement.hidden.dram());
  set_class(plan, TensorClass::hidden, placement.hidden, hidden_gpu, hidden_dram,
            hidden_total - hidden_gpu - hidden_dram);

  plan.workspace_bytes = in.workspace_bytes ? in.workspace_bytes(in.policy.micro_batch_size, plan.max_tokens) : 0;
  plan.gpu.workspace = plan.workspace_bytes;
  plan.gpu.staging = static_cast<std::uint64_t>(weight_slots_of(in.policy)) * plan.weights.slot_bytes +
                     num_cache_slots * plan.cache.staged_bytes();
  plan.gpu.staging += bookkeeping_bytes(in, cached, plan.max_tokens);
  const std::uint64_t rows_bytes = block_row_bytes(in.policy, in.model);
  if (hidden_gpu != hidden_total)  // slots, and places for the states of a decode step
    plan.gpu.staging += num_hidden_slots * plan.hidden_bytes + rows_bytes +
                        4096 * static_cast<std::uint64_t>(in.policy.num_micro_batches);

  if (in.policy.uses_host_attention()) {  // a block's queries, keys, values and what attention gave
    plan.gpu.staging += 4 * rows_bytes + 2 * 4096;
    plan.host_staging_bytes += 4 * rows_bytes;
  }

  // Through the host pass: what lies on ssd on its way to the GPU, and the edges of direct I/O.
  const std::uint64_t segment_bytes =
      static_cast<std::uint64_t>(plan.cache.shape.heads) * plan.cache.shape.unit_bytes();
  plan.cache_staging_half_bytes = std::max(staging_half_bytes, segment_bytes);
  const auto add_streams = [&](TensorClass tensor_class, std::uint64_t num_streams, std::uint64_t half_bytes) {
    if (plan.ssd.home[static_cast<std::size_t>(tensor_class)] == 0) return;
    plan.host_staging_bytes += num_streams * (io_bounce_bytes + (in.on_gpu ? 2 * half_bytes : 0));
  };
  add_streams(TensorClass::weights, 1, staging_half_bytes);
  add_streams(TensorClass::cache, 2, plan.cache_staging_half_bytes);
  add_streams(TensorClass::hidden, 2, staging_half_bytes);
  // Each row's last incomplete block on ssd stays in memory.
  if (plan.cache.ssd_units > 0)
    plan.host_staging_bytes += 4096ULL * static_cast<std::uint64_t>(cached) * static_cast<std::uint64_t>(num_slots) *
                               static_cast<std::uint64_t>(in.policy.micro_batch_size);
  plan.dram.staging = plan.host_staging_bytes;
  return plan;
}

MemoryPlan plan_memory(const PlanInput& in, const Budgets& budgets) {
  MemoryPlan plan = plan_memory(in);
  if (!may_use_plain_layer(in, plan.max_tokens)) return plan;
  std::uint64_t bytes = 0;
  for (const LayerDescription& layer : in.layers) bytes = std::max(bytes, plain_layer_bytes(layer, in.policy.dtype));
  const std::uint64_t taken = bytes == 0 ? 0 : bytes + 4096;  // what aligning it costs
  if (plan.gpu.total() + taken > budgets.gpu_bytes) return plan;
  plan.plain_layer_bytes = bytes;
  plan.gpu.staging += taken;
  return plan;
}

namespace {

void explain(std::string& text, const char* tier, const TierDemand& demand, std::uint64_t budget) {
  if (demand.total() <= budget) return;
  if (!text.empty()) text += "; ";
  text += fmt::format("{} needs {} (weights {}, cache {}, hidden {}, staging {}, workspace {}) but may use {}", tier,
                      format_bytes(demand.total()), format_bytes(demand.home[0]), format_bytes(demand.home[1]),
                      format_bytes(demand.home[2]), format_bytes(demand.staging), format_bytes(demand.workspace),
                      format_bytes(budget));
}

bool fits(const MemoryPlan& plan, const Budgets& budgets) {
  return plan.gpu.total() <= budgets.gpu_bytes && plan.dram.total() <= budgets.dram_bytes &&
         plan.ssd.total() <= budgets.ssd_bytes;
}

// Moves a class one notch down the tiers; false when there is nothing left to move.
bool lower(Share& share, bool from_gpu, bool from_dram) {
  constexpr double notch = 5;
  if (from_gpu && share.gpu_percent > 0) {
    const double moved = std::min(notch, share.gpu_percent);
    share.gpu_percent -= moved;
    share.dram_percent += moved;
    return true;
  }
  if (from_dram && share.dram_percent > 0) {
    share.dram_percent -= std::min(notch, share.dram_percent);
    return true;
  }
  return false;
}

bool fit_by_moving(PlanInput& in, const Budgets& budgets) {
  while (true) {
    const MemoryPlan plan = plan_memory(in);
    if (fits(plan, budgets)) return true;
    const bool gpu_over = plan.gpu.total() > budgets.gpu_bytes;
    const bool dram_over = plan.dram.total() > budgets.dram_bytes;
    Placement& at = in.policy.placement;
    if (!lower(at.weights, gpu_over, dram_over) && !lower(at.cache, gpu_over, dram_over) &&
        !lower(at.hidden, gpu_over, dram_over))
      return false;
  }
}

}  // namespace

std::string explain_misfit(const MemoryPlan& plan, const Budgets& budgets) {
  std::string text;
  explain(text, "gpu", plan.gpu, budgets.gpu_bytes);
  explain(text, "dram", plan.dram, budgets.dram_bytes);
  explain(text, "ssd", plan.ssd, budgets.ssd_bytes);
  return text;
}

Policy nearest_fit(const PlanInput& input, const Budgets& budgets) {
  PlanInput trial = input;
  while (true) {
    const Policy sizes = trial.policy;
    if (fit_by_moving(trial, budgets)) return trial.policy;
    trial.policy = sizes;
    if (trial.policy.num_micro_batches > 1) trial.policy.num_micro_batches /= 2;
    else if (trial.policy.micro_batch_size > 1) trial.policy.micro_batch_size /= 2;
    else break;
  }
  PlanInput least = input;
  least.policy.micro_batch_size = least.policy.num_micro_batches = 1;
  least.policy.placement = make_placement({0, 0, 0, 0, 0, 0});
  throw UserError(ExitCode::does_not_fit, "the model does not fit this machine, not even one row at a time from ssd",
                  explain_misfit(plan_memory(least), budgets),
                  "Raise the budgets (--gpu-mem, --cpu-mem, --disk-mem), shorten the rows or use more ranks");
}

void require_fit(const PlanInput& input, const Budgets& budgets) {
  const std::string misfit = explain_misfit(plan_memory(input), budgets);
  if (misfit.empty()) return;
  throw UserError(ExitCode::does_not_fit, "the policy " + to_flags(input.policy) + " does not fit", misfit,
                  "The nearest one that fits: " + to_flags(nearest_fit(input, budgets)));
}

}  // namespace flexgen
