// What is offered in the place of a policy that does not fit: the nearest one that does.
//
// Pure functions. What a policy takes too much of is asked of the caller, so that ranks can ask it together.
#pragma once

#include <functional>
#include <optional>

#include "base/fields.hpp"
#include "policy/memory_plan.hpp"

namespace flexgen {

/// On which tiers a policy takes more than it may.
struct TierOverflow {
  bool gpu = false, dram = false, ssd = false;

  bool any() const { return gpu || dram || ssd; }
  static constexpr auto fields() {
    return std::tuple(field("gpu", &TierOverflow::gpu), field("dram", &TierOverflow::dram),
                      field("ssd", &TierOverflow::ssd));
  }
};

TierOverflow overflow_of(const MemoryPlan& plan, const Budgets& budgets);

using OverflowUnder = std::function<TierOverflow(const Policy&)>;

/// Keeps B and K and moves weights, cache and hidden states down the tiers, or, where the lowest is full, fills the
/// upper ones; when that is not enough, halves K, then B. Percentages come out as to_flags prints them. A cache that
/// the host attends stays off ssd. Empty where not even one row fits.
std::optional<Policy> nearest_fit(const Policy& policy, const OverflowUnder& overflow);

/// Of one rank; the policy is the input's.
std::optional<Policy> nearest_fit(const PlanInput& input, const Budgets& budgets);

/// The same, and where that is empty with what else saves memory and no quality: attention where the weights are, two
/// layers, nothing shared, prompts in ever smaller parts. Empty where least_policy fits in no placement.
std::optional<Policy> nearest_offer(const Policy& policy, const OverflowUnder& overflow);

/// All on ssd, but for a cache that the host attends.
Placement lowest_placement(const Policy& policy);

/// One row at a time, token by token, from ssd.
Policy least_policy(Policy policy);

}  // namespace flexgen
