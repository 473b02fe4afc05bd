// The policy of a job that names none: weights to gpu, then dram, then ssd within the budgets; B and K from what is
// left. A simple rule that always gives something that runs; the optimiser is another matter.
#pragma once

#include "policy/memory_plan.hpp"

namespace flexgen {

/// @param input  its policy gives dtype and switches; B, K and placement are chosen here
/// Where nothing fits, one row at a time from ssd, for the caller to refuse.
Policy greedy_fill(const PlanInput& input, const Budgets& budgets);

/// The same for given B and K: chooses the placement alone. Falls back to nearest_fit, which may lower B and K.
Policy greedy_placement(const PlanInput& input, const Budgets& budgets);

}  // namespace flexgen
