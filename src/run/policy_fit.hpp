// Whether a policy fits all ranks of a job, and what would.
#pragma once

#include "comm/communicator.hpp"
#include "run/policy_choice.hpp"
#include "spec/policy.hpp"

namespace flexgen {

/// Collective. Throws AgreedError (does_not_fit) where the policy does not fit every rank: with the numbers of one that
/// it does not fit and the nearest policy that fits all of them, as flags; or says that there is none.
/// @param budgets  this rank's
void require_fit(const JobPolicy& policy, const JobOutline& job, const Budgets& budgets, Communicator& ranks);

}  // namespace flexgen
