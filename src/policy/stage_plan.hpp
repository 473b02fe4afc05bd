// What one rank is to run: its slice of the model, and the memory that it takes. Pure arithmetic on every rank.
#pragma once

#include "policy/memory_plan.hpp"

namespace flexgen {

struct StagePlan {
  PlanInput input;
  SliceBounds bounds;
  MemoryPlan memory;
};

/// What plan_memory wants of a slice that is described for its device. `policy.separate_layers` must be what the
/// description was made with.
PlanInput plan_input(const ModelSpec& model, SliceDescription slice, const Policy& policy, const JobShape& job,
                     const HiddenLinks& links = {});

}  // namespace flexgen
