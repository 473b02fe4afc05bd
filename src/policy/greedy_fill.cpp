#include "policy/greedy_fill.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "policy/nearest_fit.hpp"

namespace flexgen {
namespace {

double percent_of(std::uint64_t part, std::uint64_t whole) {
  if (whole == 0 || part >= whole) return 100;
  return std::floor(1000.0 * static_cast<double>(part) / static_cast<double>(whole)) /
         10;  // one decimal, never too much
}

// Fills one class into what the two upper tiers have left, given a plan in which the class lies on ssd.
Share fill(std::uint64_t class_bytes, std::uint64_t gpu_left, std::uint64_t dram_left) {
  Share share;
  share.gpu_percent = percent_of(gpu_left, class_bytes);
  const auto rest = static_cast<std::uint64_t>(static_cast<double>(class_bytes) * (100 - share.gpu_percent) / 100);
  share.dram_percent =
      rest == 0 ? 0 : std::min(100 - share.gpu_percent, percent_of(dram_left, rest) * (100 - share.gpu_percent) / 100);
  share.dram_percent = std::floor(share.dram_percent * 10) / 10;
  if (dram_left >= rest) share.dram_percent = 100 - share.gpu_percent;
  return share;
}

// Of one head of all sequences of a (layer, slot).
std::uint64_t head_bytes(const CacheLayout& cache) {
  if (cache.splits.empty()) return 0;
  const CacheSplit& split = cache.splits.front();
  return (split.gpu_bytes + split.staged_bytes()) / static_cast<std::uint64_t>(cache.shape.heads);
}

std::uint64_t left(std::uint64_t budget, std::uint64_t used) { return budget > used ? budget - used : 0; }

// Places the classes in the order hidden, weights, cache for given B and K. False when it does not fit.
bool place(PlanInput& in, const Budgets& budgets) {
  Placement& at = in.policy.placement;
  at = make_placement({0, 0, 0, 0, 0, 0});
  const auto fill_class = [&](Share& share, TensorClass tensor_class) {
    const MemoryPlan plan = plan_memory(in);
    const auto c = static_cast<std::size_t>(tensor_class);
    const std::uint64_t bytes = plan.gpu.home[c] + plan.dram.home[c] + plan.ssd.home[c];
    // What frees no staging until it is whole is tried whole first.
    share = {100, 0};
    if (plan_memory(in).gpu.total() <= budgets.gpu_bytes) return;
    // A share is met to one grain: that much stays free, lest rounding up throws the plan over the edge.
    const std::uint64_t grain = tensor_class == TensorClass::cache ? head_bytes(plan.cache) : split_alignment;
    share = fill(bytes, left(budgets.gpu_bytes, plan.gpu.total() + grain),
                 left(budgets.dram_bytes, plan.dram.total() + grain));
  };
  fill_class(at.hidden, TensorClass::hidden);
  fill_class(at.weights, TensorClass::weights);
  fill_class(at.cache, TensorClass::cache);
  return explain_misfit(plan_memory(in), budgets).empty();
}

bool needs_more_ssd(const Policy& policy, const Policy& than) {
  return policy.placement.weights.ssd() > than.placement.weights.ssd() + 0.01 ||
         policy.placement.cache.ssd() > than.placement.cache.ssd() + 1e-9;
}

// What the fill itself has no answer to.
Policy nearest_or_least(const PlanInput& trial, const Budgets& budgets) {
  if (const std::optional<Policy> fit = nearest_fit(trial, budgets)) return *fit;
  Policy least = trial.policy;
  least.micro_batch_size = least.num_micro_batches = 1;
  least.placement = lowest_placement(least);
  return least;
}

// For given B: the largest K that the job fills, while no more weights and no cache have to go to ssd for it.
std::optional<Policy> grow_block(PlanInput& trial, const Budgets& budgets, std::int64_t rows_per_group) {
  std::optional<Policy> best;
  for (std::int32_t k = 1; k <= 16; k *= 2) {
    if (k > 1 && static_cast<std::int64_t>(k) * trial.policy.micro_batch_size > rows_per_group) break;
    trial.policy.num_micro_batches = k;
    if (!place(trial, budgets)) break;
    if (best && (needs_more_ssd(trial.policy, *best) || trial.policy.placement.cache.ssd() > 1e-9)) break;
    best = trial.policy;
  }
  return best;
}

}  // namespace

Policy greedy_fill(const PlanInput& input, const Budgets& budgets) {
  constexpr std::array<std::int32_t, 7> sizes{64, 32, 16, 8, 4, 2, 1};
  const std::int64_t rows_per_group =
      std::max<std::int64_t>(1, (input.job.num_rows + input.policy.num_groups - 1) / input.policy.num_groups);
  PlanInput trial = input;

  // Everything on the gpu: nothing streams, so one micro-batch as large as fits.
  trial.policy.num_micro_batches = 1;
  for (const std::int32_t size : sizes) {
    trial.policy.micro_batch_size = static_cast<std::int32_t>(std::min<std::int64_t>(size, rows_per_group));
    trial.policy.placement = make_placement({100, 0, 100, 0, 100, 0});
    if (explain_misfit(plan_memory(trial), budgets).empty()) return trial.policy;
    if (size <= 4) break;  // a smaller block would waste the weights' bandwidth: stream instead
  }

  // Weights stream: the larger the block, the cheaper. A smaller B is taken only where it allows a larger block.
  std::optional<Policy> best;
  for (const std::int32_t size : sizes) {
    trial.policy.micro_batch_size = static_cast<std::int32_t>(std::min<std::int64_t>(size, rows_per_group));
    const std::optional<Policy> grown = grow_block(trial, budgets, rows_per_group);
    if (grown && (!best || (grown->block_rows() > best->block_rows() && !needs_more_ssd(*grown, *best)))) best = grown;
  }
  if (best) return *best;
  trial.policy.micro_batch_size = trial.policy.num_micro_batches = 1;
  return nearest_or_least(trial, budgets);
}

Policy greedy_placement(const PlanInput& input, const Budgets& budgets) {
  PlanInput trial = input;
  trial.policy.placement = make_placement({100, 0, 100, 0, 100, 0});
  if (explain_misfit(plan_memory(trial), budgets).empty() || place(trial, budgets)) return trial.policy;
  return nearest_or_least(trial, budgets);
}

}  // namespace flexgen
