#include "run/policy_choice.hpp"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <string>

#include "base/error.hpp"
#include "base/log.hpp"
#include "comm/exchange.hpp"
#include "model/layer.hpp"
#include "model/slice_description.hpp"
#include "policy/greedy_fill.hpp"
#include "policy/token_flow.hpp"
#include "run/machine.hpp"
#include "run/planning/plan_question.hpp"
#include "run/planning/planned_machines.hpp"
#include "run/policy_fit.hpp"
#include "spec/block_limits.hpp"

namespace flexgen {
namespace {

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

// What a file gives each rank.
void place_by_rank(const std::vector<StageWishes>& wishes, std::vector<StagePolicy>& stages) {
  if (wishes.empty()) return;
  if (wishes.size() != stages.size())
    throw UserError(ExitCode::usage, "--percent cannot be honoured",
                    fmt::format("its file has placements for {} ranks, the job has {}", wishes.size(), stages.size()),
                    "Give one for every rank");
  for (std::size_t r = 0; r < stages.size(); ++r) {
    stages[r].placement = wishes[r].placement.value_or(stages[r].placement);
    stages[r].host_attention_percent = wishes[r].host_attention_percent.value_or(stages[r].host_attention_percent);
    stages[r].separate_layers = wishes[r].separate_layers.value_or(stages[r].separate_layers);
  }
}

// What the greedy fill chooses for one rank.
struct Fill {
  std::int32_t micro_batch_size = 0, num_micro_batches = 0;
  Placement placement;
  static constexpr auto fields() {
    return std::tuple(field("micro_batch_size", &Fill::micro_batch_size),
                      field("num_micro_batches", &Fill::num_micro_batches), field("placement", &Fill::placement));
  }
};

// Every rank fills its tiers for its own slice. Blocks are as large as fit all of them, and then each places what is
// its own anew. Where B or K was given, both stay.
void fill_greedily(const PolicyRequest& request, const JobOutline& job, const Budgets& budgets, Communicator& ranks,
                   JobPolicy& policy) {
  const auto own = static_cast<std::size_t>(ranks.rank());
  const auto fill = [&](bool sizes_given) {
    Fill filled;
    ranks.agree_on_error([&] {
      const PlanInput input = job.stage_input(policy, own);
      const Policy chosen = sizes_given ? greedy_placement(input, budgets) : greedy_fill(input, budgets);
      filled = {chosen.micro_batch_size, chosen.num_micro_batches, chosen.placement};
    });
    return gather(ranks, filled);
  };
  const auto rows = [](const Fill& one) {
    return static_cast<std::int64_t>(one.micro_batch_size) * one.num_micro_batches;
  };
  std::vector<Fill> fills = fill(request.gpu_batch_size || request.num_gpu_batches);
  while (true) {
    const Fill least = *std::ranges::min_element(fills, {}, rows);
    policy.block.micro_batch_size = least.micro_batch_size;
    policy.block.num_micro_batches = least.num_micro_batches;
    const bool are_alike = std::ranges::all_of(fills, [&](const Fill& one) {
      return one.micro_batch_size == least.micro_batch_size && one.num_micro_batches == least.num_micro_batches;
    });
    if (are_alike) break;
    fills = fill(true);  // which may find yet smaller ones
  }
  // Hosts that attend cut the rows alike: as the rank has it that has least room on its gpu tier.
  const auto by_cache = [](const Fill& one) { return one.placement.cache.gpu_percent; };
  const Fill& least_cache = *std::ranges::min_element(fills, {}, by_cache);
  for (std::size_t r = 0; r < fills.size(); ++r) {
    policy.stages[r].placement = fills[r].placement;
    if (policy.stages[r].uses_host_attention()) policy.stages[r].placement.cache = least_cache.placement.cache;
  }
}

// What the ranks' plan has chosen, from rank 0 to the others.
struct Planned {
  std::int32_t micro_batch_size = 0, num_micro_batches = 0, token_budget = 0;
  std::int32_t weight_bits = 0, cache_bits = 0;
  CacheCut cache_cut;
  std::vector<StagePolicy> stages;
  std::vector<std::int32_t> slices;
  static constexpr auto fields() {
    return std::tuple(field("micro_batch_size", &Planned::micro_batch_size),
                      field("num_micro_batches", &Planned::num_micro_batches),
                      field("token_budget", &Planned::token_budget), field("weight_bits", &Planned::weight_bits),
                      field("cache_bits", &Planned::cache_bits), field("cache_cut", &Planned::cache_cut),
                      field("stages", &Planned::stages), field("slices", &Planned::slices));
  }
};

Planned planned_of(const JobPlan& plan) {
  if (plan.ways.empty()) return {};
  const auto& [block, stages, slices] = plan.ways.front().policy;
  return {block.micro_batch_size,
          block.num_micro_batches,
          block.token_budget,
          block.weight_format.bits,
          block.cache_format.bits,
          block.cache_cut,
          stages,
          slices};
}

// False where there is no plan: a machine has no profile, or nothing fits.
bool plan_together(const PolicyRequest& request, const JobOutline& job, const Budgets& budgets,
                   const RankProfiles& profiles, Communicator& ranks, JobPolicy& policy) {
  const auto machines = machines_of_ranks(profiles, job.device, budgets, ranks);
  if (!machines || job.shape.num_rows == 0) return false;
  Planned planned;
  ranks.agree_on_error([&] {
    if (ranks.rank() != 0) return;
    const auto to_plan = ranks_to_plan(*machines, job.model, job.shape, job.transport, job.hidden_through_host);
    planned = planned_of(plan_job(to_plan, plan_question(request, job.model, job.shape, policy.of_rank(0)), 1));
  });
  planned = share(ranks, planned);
  if (planned.stages.empty()) return false;
  policy.stages = planned.stages;
  policy.slices = planned.slices;
  BlockShape& block = policy.block;
  block.micro_batch_size = planned.micro_batch_size;
  block.num_micro_batches = planned.num_micro_batches;
  block.token_budget = planned.token_budget;
  block.weight_format.bits = planned.weight_bits;
  block.cache_format.bits = planned.cache_bits;
  block.cache_cut = planned.cache_cut;
  return true;
}

// The largest budget that a rank chooses, as the slowest may be the one that wants it, if it fits all of them.
void choose_flow(const JobOutline& job, const Budgets& budgets, const std::optional<LoadedProfile>& profile,
                 Communicator& ranks, JobPolicy& policy) {
  if (!job.device.is_cuda()) return;
  std::int32_t budget = 0;
  const PlanInput plan = job.stage_input(policy, static_cast<std::size_t>(ranks.rank()));
  if (profile && profile->profile.gpu)
    budget = choose_token_budget(
        {plan, budgets, ceilings_of(profile->profile, true, policy.block.dtype, profile->share, "")});
  for (const std::string& other : ranks.all_gather(std::to_string(budget))) budget = std::max(budget, std::stoi(other));
  if (budget == 0) return;
  PlanInput with_budget = plan;
  with_budget.policy.token_budget = budget;
  if (ranks_agree(explain_misfit(plan_memory(with_budget), budgets).empty(), ranks)) policy.block.token_budget = budget;
}

// With two layers the last micro-batch's mlp waits for the host before the next layer's attention is projected: the
// host idles once per layer. One layer needs room for more weights at a time. Each rank as it can.
void choose_layers(const PolicyRequest& request, const JobOutline& job, const Budgets& budgets, Communicator& ranks,
                   JobPolicy& policy) {
  const auto own = static_cast<std::size_t>(ranks.rank());
  StagePolicy mine = policy.stages[own];
  const bool is_wished = !request.stages.empty() && request.stages[own].separate_layers;
  if (mine.uses_host_attention() && !is_wished) {
    policy.stages[own].separate_layers = false;
    mine.separate_layers = !explain_misfit(plan_memory(job.stage_input(policy, own)), budgets).empty();
  }
  policy.stages = gather(ranks, mine);
}

void log_policy(const JobPolicy& policy) {
  for (std::size_t r = 0; r < policy.stages.size(); ++r) {
    const bool is_alone = policy.stages.size() == 1;
    if (r > 0 && policy.stages[r] == policy.stages[r - 1] && policy.slices[r] == policy.slices[r - 1]) continue;
    log::info(fmt::format("policy{} {}",
                          is_alone ? "" : fmt::format(" from rank {} on: {} layers,", r, policy.slices[r]),
                          to_flags(policy.of_rank(r))));
  }
}

}  // namespace

DType agree_on_dtype(DType mine, const Device& device, Communicator& ranks) {
  for (const std::string& other : ranks.all_gather(dtype_name(mine)))
    if (other != dtype_name(mine)) return device.is_cuda() ? DType::float16 : DType::float32;
  return mine;
}

JobPolicy requested_policy(const PolicyRequest& request, const ModelSpec& model, const JobShape& shape, int num_ranks) {
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
  JobPolicy job{policy, std::vector<StagePolicy>(static_cast<std::size_t>(num_ranks), policy), {}};
  place_by_rank(request.stages, job.stages);
  if (request.slices) {
    require_slices(*request.slices, model, num_ranks);
    job.slices = *request.slices;
  } else {
    for (const SliceBounds& bounds : balanced_slices(model, num_ranks)) job.slices.push_back(bounds.num_decoder_layers);
  }
  return job;
}

void cut_caches(JobPolicy& policy) {
  for (const StagePolicy& stage : policy.stages) {
    const CacheCut cut = stage.own_cut();
    if (!cut.is_cut()) continue;
    CacheCut& common = policy.block.cache_cut;
    if (common.is_cut() && common != cut)
      throw UserError(ExitCode::usage, "the ranks' caches cannot be cut in different ways",
                      fmt::format("one has {:g} % of the rows on gpu and the CPU attends for {:g} % of the others, "
                                  "another {:g} % and {:g} %",
                                  common.gpu_percent, common.host_percent, cut.gpu_percent, cut.host_percent),
                      "Give all ranks with --cpu-cache-compute the same shares, or one all rows or none");
    common = cut;
  }
}

std::string to_text(const JobPolicy& policy) {
  const CacheCut& cut = policy.block.cache_cut;
  std::string text = fmt::format("cut {:g} {:g}", cut.gpu_percent, cut.host_percent);
  for (std::size_t r = 0; r < policy.stages.size(); ++r)
    text += fmt::format("; {} layers {}", policy.slices[r], to_flags(policy.of_rank(r)));
  return text;
}

void require_slices(const std::vector<std::int32_t>& slices, const ModelSpec& model, int num_ranks) {
  const auto sum = std::accumulate(slices.begin(), slices.end(), std::int64_t{0});
  if (std::ssize(slices) == num_ranks && sum == model.num_layers && std::ranges::min(slices) > 0) return;
  throw UserError(ExitCode::usage, fmt::format("--slices {} cannot be honoured", fmt::join(slices, ",")),
                  fmt::format("{} has {} layers, the job {} rank{}", model.name, model.num_layers, num_ranks,
                              num_ranks == 1 ? "" : "s"),
                  "Give a number above 0 for every rank, with the model's layers as their sum");
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

PlanInput JobOutline::stage_input(const JobPolicy& policy, std::size_t rank) const {
  const Policy whole = policy.of_rank(rank);
  return plan_input(model, describe_slice(model, slice_bounds(policy.slices, rank), whole.separate_layers, device),
                    whole, shape, {rank > 0, rank + 1 < policy.slices.size(), hidden_through_host});
}

JobPolicy choose_policy(const PolicyRequest& request, const JobOutline& job, const Budgets& budgets,
                        const RankProfiles& profiles, Communicator& ranks) {
  const auto own = static_cast<std::size_t>(ranks.rank());
  JobPolicy policy;
  ranks.agree_on_error([&] { policy = requested_policy(request, job.model, job.shape, ranks.size()); });
  // Before anything is chosen by it: other options, or another file of them, would part the ranks' ways.
  ranks.all_equal("the policy that is asked for", to_text(policy));
  policy.block.dtype =
      agree_on_dtype(choose_dtype(request.dtype, job.device, job.model.stored_dtype), job.device, ranks);
  const bool is_planned = !request.is_placed() && plan_together(request, job, budgets, profiles, ranks, policy);
  if (!is_planned) {
    if (!request.is_placed()) fill_greedily(request, job, budgets, ranks, policy);
    ranks.agree_on_error([&] {
      for (const StagePolicy& stage : policy.stages)
        if (stage.uses_host_attention()) require_cache_off_ssd(stage.placement);
    });
    if (!request.sep_layer) choose_layers(request, job, budgets, ranks, policy);
    ranks.agree_on_error([&] { cut_caches(policy); });
    choose_flow(job, budgets, profiles[own], ranks, policy);
  }
  ranks.agree_on_error([&] { require_token_for_each_row(policy.block.token_budget, policy.block.micro_batch_size); });
  require_fit(policy, job, budgets, ranks);
  if (!request.is_placed()) log_policy(policy);
  return policy;
}

}  // namespace flexgen
