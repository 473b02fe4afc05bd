#include "run/policy_fit.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "comm/exchange.hpp"
#include "policy/nearest_fit.hpp"

namespace flexgen {
namespace {

// The flags of one command line, which all ranks run alike, as they would be chosen.
PlanInput own_input(const Policy& flags, const std::vector<std::int32_t>& slices, const JobOutline& job, int rank) {
  JobPolicy all{flags, std::vector<StagePolicy>(slices.size(), flags), slices};
  all.block.cache_cut = {};
  cut_caches(all);
  return job.stage_input(all, static_cast<std::size_t>(rank));
}

TierOverflow overflow_anywhere(const TierOverflow& own, Communicator& ranks) {
  TierOverflow any;
  for (const TierOverflow& one : gather(ranks, own)) {
    any.gpu |= one.gpu;
    any.dram |= one.dram;
    any.ssd |= one.ssd;
  }
  return any;
}

[[noreturn]] void refuse(const std::string& problem, const std::string& misfit, const std::string& suggestion) {
  throw UserError(ExitCode::does_not_fit, problem, misfit, suggestion);
}

}  // namespace

void require_fit(const JobPolicy& policy, const JobOutline& job, const Budgets& budgets, Communicator& ranks) {
  const auto own = static_cast<std::size_t>(ranks.rank());
  const std::string misfit = explain_misfit(plan_memory(job.stage_input(policy, own)), budgets);
  const std::vector<std::string> misfits = ranks.all_gather(misfit);
  const auto first = std::ranges::find_if(misfits, [](const std::string& text) { return !text.empty(); });
  if (first == misfits.end()) return;
  const Policy refused = policy.of_rank(static_cast<std::size_t>(first - misfits.begin()));
  const auto plan = [&](const Policy& flags) {
    return plan_memory(own_input(flags, policy.slices, job, ranks.rank()));
  };
  // All ranks ask for the same policies in the same order, as they are told the same.
  const std::optional<Policy> offer = nearest_offer(
      refused, [&](const Policy& flags) { return overflow_anywhere(overflow_of(plan(flags), budgets), ranks); });
  ranks.agree_on_error([&] {
    if (offer && !misfit.empty())
      refuse("the policy " + to_flags(policy.of_rank(own)) + " does not fit", misfit,
             "The nearest one that fits: " + to_flags(*offer));
    if (offer) return;
    const std::string least = explain_misfit(plan(least_policy(refused)), budgets);
    if (!least.empty())
      refuse("the model does not fit this machine, not even one row at a time", least,
             "Raise the budgets (--gpu-mem, --cpu-mem, --disk-mem), shorten the rows or use more ranks");
  });
}

}  // namespace flexgen
