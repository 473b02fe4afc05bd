// What one rank is to run: its slice of the model, and the memory that it takes. Pure arithmetic on every rank.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

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

/// A rank's slice, of decoder layers by rank: embedding with the first, head with the last.
SliceBounds slice_bounds(std::span<const std::int32_t> slices, std::size_t rank);

}  // namespace flexgen
