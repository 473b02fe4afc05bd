#include "run/policy_choice.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <string>

#include "base/error.hpp"
#include "base/log.hpp"
#include "comm/exchange.hpp"
#include "model/slice_description.hpp"
#include "ops/parallel_for.hpp"
#include "policy/greedy_fill.hpp"
#include "policy/token_flow.hpp"
#include "run/machine.hpp"
#include "spec/block_limits.hpp"

namespace flexgen {
namespace {

// The smallest of every budget and the largest slice: what fits these fits every rank.
Budgets smallest_budgets(const Budgets& mine, Communicator& ranks) {
  Budgets least = mine;
  for (const Budgets& other : gather(ranks, mine)) {
    least.gpu_bytes = std::min(least.gpu_bytes, other.gpu_bytes);
    least.dram_bytes = std::min(least.dram_bytes, other.dram_bytes);
    least.ssd_bytes = std::min(least.ssd_bytes, other.ssd_bytes);
  }
  return least;
}

// Every thread takes scratch.
std::int32_t most_loop_threads(Communicator& ranks) {
  std::int32_t most = 1;
  for (const std::string& threads : ranks.all_gather(std::to_string(num_loop_threads())))
    most = std::max(most, std::stoi(threads));
  return most;
}

std::uint64_t slice_elements(const PlanInput& input) {
  std::uint64_t total = 0;
  for (const LayerDescription& layer : input.slice.layers) total += static_cast<std::uint64_t>(layer.num_elements());
  return total;
}

// What the greedy fill chooses.
struct Fill {
  std::int32_t micro_batch_size = 0, num_micro_batches = 0;
  Placement placement;
  static constexpr auto fields() {
    return std::tuple(field("micro_batch_size", &Fill::micro_batch_size),
                      field("num_micro_batches", &Fill::num_micro_batches), field("placement", &Fill::placement));
  }
};

bool ranks_agree(bool mine, Communicator& ranks) {
  const std::vector<std::string> all = ranks.all_gather(mine ? "yes" : "no");
  return std::all_of(all.begin(), all.end(), [](const std::string& one) { return one == "yes"; });
}

// A compressed checkpoint is run as it is.
QuantFormat weight_format(const PolicyRequest& request, const ModelSpec& model) {
  if (model.compression.is_none()) return request.weight_format;
  if (!request.weight_format.is_none() && request.weight_format != model.compression)
    throw UserError(ExitCode::usage, "the weights cannot be compressed anew",
                    fmt::format("the model is compressed already, to {} bits in groups of {}", model.compression.bits,
                                model.compression.group),
                    "Leave --compress-weight out, or start from the uncompressed model");
  return model.compression;
}

// Common beginnings that a slot holds at most. A place costs an entry of the cache's tables and, on ssd, a block of
// memory, both for every layer and slot.
constexpr std::int32_t most_prefixes = 16;

// Whatever rows share, their tokens are the same: where it cannot be done, they share nothing.
std::string why_not_shared(const Policy& policy) {
  if (policy.rule == BlockRule::fixed) return "with --static-blocks rows do not wait for each other";
  if (policy.attention_sparsity < 1) return "sparse attention chooses among all positions of a row at once";
  return "";
}

void choose_sharing(const PolicyRequest& request, const JobShape& shape, Policy& policy) {
  policy.wants_sharing = request.prefix_sharing.value_or(true);
  if (!policy.wants_sharing) return;
  const std::string why_not = why_not_shared(policy);
  if (request.prefix_sharing && !why_not.empty())
    throw UserError(ExitCode::usage, "--prefix-sharing cannot be done here", why_not, "Leave it out");
  const bool has_what_to_share = shape.num_rows > 1 && shape.max_prompt_tokens > prefix_grain && !shape.scores;
  if (why_not.empty() && has_what_to_share) policy.num_prefixes = most_prefixes;
}

// All that is asked for or has a default, the same on every rank.
Policy requested_policy(const PolicyRequest& request, const JobOutline& job, Communicator& ranks) {
  Policy policy;
  ranks.agree_on_error(
      [&] { policy = unplaced_policy(request, job.model, job.shape, static_cast<std::int32_t>(job.slices.size())); });
  policy.dtype = agree_on_dtype(choose_dtype(request.dtype, job.device, job.model.stored_dtype), job.device, ranks);
  return policy;
}

// Rank 0 fills the tiers for the largest slice; where B or K was given, both stay.
void fill_greedily(const PolicyRequest& request, const JobOutline& job, const Budgets& budgets, Communicator& ranks,
                   Policy& policy) {
  const Budgets least = smallest_budgets(budgets, ranks);
  const std::int32_t num_threads = most_loop_threads(ranks);
  Fill fill;
  ranks.agree_on_error([&] {
    if (ranks.rank() != 0) return;
    PlanInput largest = job.stage_input(policy, 0);
    for (std::size_t rank = 1; rank < job.slices.size(); ++rank)
      if (PlanInput other = job.stage_input(policy, rank); slice_elements(other) > slice_elements(largest))
        largest = std::move(other);
    largest.slice.num_loop_threads = num_threads;
    largest.links.receives = largest.links.sends = ranks.size() > 1;
    const bool sizes_given = request.gpu_batch_size || request.num_gpu_batches;
    const Policy chosen = sizes_given ? greedy_placement(largest, least) : greedy_fill(largest, least);
    fill = {chosen.micro_batch_size, chosen.num_micro_batches, chosen.placement};
  });
  fill = share(ranks, fill);
  policy.micro_batch_size = fill.micro_batch_size;
  policy.num_micro_batches = fill.num_micro_batches;
  policy.placement = fill.placement;
  log::info("policy " + to_flags(policy));
}

// The largest budget that a rank chooses, as the slowest may be the one that wants it, if it fits all of them.
void choose_flow(const JobOutline& job, const Budgets& budgets, const std::optional<LoadedProfile>& profile,
                 Communicator& ranks, Policy& policy) {
  if (!job.device.is_cuda()) return;
  std::int32_t budget = 0;
  const PlanInput plan = job.stage_input(policy, static_cast<std::size_t>(ranks.rank()));
  if (profile && profile->profile.gpu)
    budget =
        choose_token_budget({plan, budgets, ceilings_of(profile->profile, true, policy.dtype, ranks.local_size(), "")});
  for (const std::string& other : ranks.all_gather(std::to_string(budget))) budget = std::max(budget, std::stoi(other));
  if (budget == 0) return;
  PlanInput with_budget = plan;
  with_budget.policy.token_budget = budget;
  if (ranks_agree(explain_misfit(plan_memory(with_budget), budgets).empty(), ranks)) policy.token_budget = budget;
}

}  // namespace

DType agree_on_dtype(DType mine, const Device& device, Communicator& ranks) {
  for (const std::string& other : ranks.all_gather(dtype_name(mine)))
    if (other != dtype_name(mine)) return device.is_cuda() ? DType::float16 : DType::float32;
  return mine;
}

Policy unplaced_policy(const PolicyRequest& request, const ModelSpec& model, const JobShape& shape,
                       std::int32_t num_ranks) {
  Policy policy;
  policy.num_groups = num_ranks;
  policy.overlap = request.overlap;
  policy.separate_layers = request.sep_layer.value_or(true);
  policy.pin_weights = request.pin_weight;
  policy.weight_format = weight_format(request, model);
  policy.cache_format = request.cache_format;
  policy.host_attention_percent = request.cpu_attention_percent.value_or(0);
  policy.attention_sparsity = request.attn_sparsity;
  policy.micro_batch_size = request.gpu_batch_size.value_or(default_micro_batch_size);
  policy.num_micro_batches = request.num_gpu_batches.value_or(default_num_micro_batches);
  policy.token_budget = request.token_budget.value_or(0);
  if (request.static_blocks) policy.rule = BlockRule::fixed;
  if (request.placement) policy.placement = *request.placement;
  choose_sharing(request, shape, policy);
  return policy;
}

void require_cache_off_ssd(const Placement& placement) {
  if (placement.cache.ssd() <= 1e-9) return;
  throw UserError(ExitCode::usage, "--cpu-cache-compute cannot attend to a cache on ssd",
                  fmt::format("the policy puts {:g} % of it there", 100 * placement.cache.ssd()),
                  "Give the cache to gpu and dram, for example --percent 20 80 0 100 0 100, or leave it out");
}

void require_token_for_each_row(std::int32_t token_budget, std::int32_t micro_batch_size) {
  if (token_budget == 0 || token_budget >= micro_batch_size) return;
  throw UserError(
      ExitCode::usage,
      fmt::format("--token-budget {} is too small for micro-batches of {} rows", token_budget, micro_batch_size),
      "every row that decodes brings a token in every sweep", "Raise it, or lower --gpu-batch-size");
}

PlanInput JobOutline::stage_input(const Policy& policy, std::size_t rank) const {
  return plan_input(model, describe_slice(model, slices[rank], policy.separate_layers, device), policy, shape,
                    {rank > 0, rank + 1 < slices.size(), hidden_through_host});
}

Policy choose_policy(const PolicyRequest& request, const JobOutline& job, const Budgets& budgets,
                     const std::optional<LoadedProfile>& profile, Communicator& ranks) {
  Policy policy = requested_policy(request, job, ranks);
  if (!request.placement) fill_greedily(request, job, budgets, ranks, policy);
  ranks.agree_on_error([&] { require_token_for_each_row(policy.token_budget, policy.micro_batch_size); });
  if (policy.uses_host_attention()) ranks.agree_on_error([&] { require_cache_off_ssd(policy.placement); });
  const auto own = static_cast<std::size_t>(ranks.rank());
  if (!request.sep_layer && policy.uses_host_attention()) {
    // With two layers the last micro-batch's mlp waits for the host before the next layer's attention is projected: the
    // host idles once per layer. One layer needs room for more weights at a time.
    policy.separate_layers = false;
    policy.separate_layers =
        !ranks_agree(explain_misfit(plan_memory(job.stage_input(policy, own)), budgets).empty(), ranks);
  }
  choose_flow(job, budgets, profile, ranks, policy);
  ranks.agree_on_error([&] { require_fit(job.stage_input(policy, own), budgets); });
  return policy;
}

}  // namespace flexgen
