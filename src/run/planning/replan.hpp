// What of a job's policy can change while it runs, chosen anew by better ceilings: the tokens that a micro-batch brings
// in a sweep. Placement, block sizes and slices stay as long as the stages hold weights and cache (decisions/0017).
// Pure arithmetic.
#pragma once

#include <cstdint>
#include <vector>

#include "policy/roofline.hpp"

namespace flexgen {

/// With how many tokens of a micro-batch in a sweep the job takes least time; `planned`, for which the stages have
/// memory, is the most, and stays where another brings little.
/// @param stages  of all ranks, with a policy that has no token budget of the user's
std::int32_t choose_tokens(std::vector<StageInput> stages, const RooflineJob& job, std::int32_t planned);

}  // namespace flexgen
