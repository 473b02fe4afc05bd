#include <fmt/core.h>

#include <algorithm>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "policy/memory_plan.hpp"

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
