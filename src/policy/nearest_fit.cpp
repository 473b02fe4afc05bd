#include "policy/nearest_fit.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "base/bytes.hpp"

namespace flexgen {
namespace {

void explain(std::string& text, const char* tier, const TierDemand& demand, std::uint64_t budget) {
  if (demand.total() <= budget) return;
  if (!text.empty()) text += "; ";
  text += fmt::format("{} needs {} (weights {}, cache {}, hidden {}, staging {}, workspace {}) but may use {}", tier,
                      format_bytes(demand.total()), format_bytes(demand.home[0]), format_bytes(demand.home[1]),
                      format_bytes(demand.home[2]), format_bytes(demand.staging), format_bytes(demand.workspace),
                      format_bytes(budget));
}

// Three decimals: of a percentage, all that its flag shows.
double printable(double percent) { return std::round(percent * 1000) / 1000; }

Share printable(const Share& share) {
  const double gpu = printable(share.gpu_percent);
  const double dram = printable(std::min(share.dram_percent, 100 - gpu));
  return {gpu, share.ssd() < 1e-9 ? printable(100 - gpu) : dram};
}

// Moves a class one notch down the tiers; false when there is nothing left to move.
bool lower(Share& share, bool from_gpu, bool from_dram) {
  constexpr double notch = 5;
  if (from_gpu && share.gpu_percent > 0) {
    const double moved = std::min(notch, share.gpu_percent);
    share = printable(Share{share.gpu_percent - moved, share.dram_percent + moved});
    return true;
  }
  if (from_dram && share.dram_percent > 0) {
    share.dram_percent = printable(share.dram_percent - std::min(notch, share.dram_percent));
    return true;
  }
  return false;
}

bool fit_by_moving(Policy& policy, const OverflowUnder& overflow) {
  while (true) {
    const TierOverflow over = overflow(policy);
    if (!over.any()) return true;
    Placement& at = policy.placement;
    if (!lower(at.weights, over.gpu, over.dram) &&
        !lower(at.cache, over.gpu, over.dram && !policy.uses_host_attention()) &&
        !lower(at.hidden, over.gpu, over.dram))
      return false;
  }
}

// The most, in tenths of a percent, that fits; 0 where nothing does. All is tried first: what lies in one place needs
// no staging, so a part may take more than the whole.
double most_percent(double all, const std::function<bool(double)>& fits) {
  if (fits(all)) return all;
  auto low = 0, high = static_cast<int>(std::floor(10 * all));
  while (low + 1 < high) {
    const int middle = (low + high) / 2;
    (fits(middle / 10.0) ? low : high) = middle;
  }
  return low / 10.0;
}

bool fit_by_filling(Policy& policy, const OverflowUnder& overflow) {
  Placement& at = policy.placement;
  at = make_placement({100, 0, 100, 0, 100, 0});
  if (!overflow(policy).any()) return true;
  at = lowest_placement(policy);
  for (Share* const share : {&at.hidden, &at.weights, &at.cache}) {
    const bool has_no_ssd = share->dram_percent >= 100;
    const double gpu = most_percent(100, [&](double percent) {
      *share = {percent, has_no_ssd ? 100 - percent : 0};
      return !overflow(policy).gpu;
    });
    const double dram = has_no_ssd ? 100 - gpu : most_percent(printable(100 - gpu), [&](double percent) {
      *share = {gpu, percent};
      return !overflow(policy).dram;
    });
    *share = printable(Share{gpu, dram});
  }
  return !overflow(policy).any();
}

// With these sizes.
std::optional<Policy> placed(Policy sizes, const OverflowUnder& overflow) {
  Placement& at = sizes.placement;
  at = {printable(at.weights), printable(at.cache), printable(at.hidden)};
  Policy filled = sizes;
  if (fit_by_moving(sizes, overflow)) return sizes;
  if (fit_by_filling(filled, overflow)) return filled;
  return std::nullopt;
}

}  // namespace

std::string explain_misfit(const MemoryPlan& plan, const Budgets& budgets) {
  std::string text;
  explain(text, "gpu", plan.gpu, budgets.gpu_bytes);
  explain(text, "dram", plan.dram, budgets.dram_bytes);
  explain(text, "ssd", plan.ssd, budgets.ssd_bytes);
  return text;
}

TierOverflow overflow_of(const MemoryPlan& plan, const Budgets& budgets) {
  return {plan.gpu.total() > budgets.gpu_bytes, plan.dram.total() > budgets.dram_bytes,
          plan.ssd.total() > budgets.ssd_bytes};
}

std::optional<Policy> nearest_fit(const Policy& policy, const OverflowUnder& overflow) {
  if (!overflow(policy).any()) return policy;
  Policy sizes = policy;
  sizes.micro_batch_size = sizes.num_micro_batches = 1;
  if (!placed(sizes, overflow)) return std::nullopt;  // soon said, where larger blocks need not be tried
  sizes = policy;
  while (true) {
    if (std::optional<Policy> fit = placed(sizes, overflow)) return fit;
    if (sizes.num_micro_batches > 1) sizes.num_micro_batches /= 2;
    else if (sizes.micro_batch_size > 1) sizes.micro_batch_size /= 2;
    else return std::nullopt;
  }
}

std::optional<Policy> nearest_fit(const PlanInput& input, const Budgets& budgets) {
  PlanInput trial = input;
  return nearest_fit(input.policy, [&](const Policy& policy) {
    trial.policy = policy;
    return overflow_of(plan_memory(trial), budgets);
  });
}

std::optional<Policy> nearest_offer(const Policy& policy, const OverflowUnder& overflow) {
  const Policy least = least_policy(policy);
  if (!nearest_fit(least, overflow)) return std::nullopt;
  if (std::optional<Policy> fit = nearest_fit(policy, overflow)) return fit;
  Policy sparing = least;
  sparing.placement = policy.placement;
  for (const std::int32_t tokens : {0, 256, 64, 16, 4}) {
    if (policy.token_budget > 0 && (tokens == 0 || tokens > policy.token_budget)) continue;
    sparing.token_budget = tokens;
    if (std::optional<Policy> fit = nearest_fit(sparing, overflow)) return fit;
  }
  return nearest_fit(least, overflow);
}

Placement lowest_placement(const Policy& policy) {
  return make_placement({0, 0, 0, policy.uses_host_attention() ? 100.0 : 0.0, 0, 0});
}

Policy least_policy(Policy policy) {
  policy.micro_batch_size = policy.num_micro_batches = policy.token_budget = 1;
  policy.host_attention_percent = 0;
  policy.separate_layers = true;
  policy.wants_sharing = false;
  policy.num_prefixes = 0;
  policy.placement = lowest_placement(policy);
  return policy;
}

}  // namespace flexgen
