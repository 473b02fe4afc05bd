// What a job asks of the planner: the flags that its user gave are wishes, the rest is to be found.
#pragma once

#include "policy/planner/planner.hpp"
#include "run/job_request.hpp"

namespace flexgen {

/// The job's rows with their mean lengths.
RooflineJob job_of(const JobShape& shape);

/// @param sizes  what is not planned: precision, rule, groups, sharing, overlap, pinning, sparsity; the formats of
///               weights and cache where they are settled
PlanQuestion plan_question(const PolicyRequest& request, const ModelSpec& model, const JobShape& shape,
                           const Policy& sizes);

}  // namespace flexgen
