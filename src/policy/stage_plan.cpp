#include "policy/stage_plan.hpp"

#include <numeric>
#include <utility>

namespace flexgen {

PlanInput plan_input(const ModelSpec& model, SliceDescription slice, const Policy& policy, const JobShape& job,
                     const HiddenLinks& links) {
  PlanInput input;
  input.model = model;
  input.policy = policy;
  input.job = job;
  input.links = links;
  input.on_gpu = input.wants_plain_layer = slice.on_gpu;  // on the host making plain is hidden in the product
  input.reads_dram = !slice.on_gpu || (policy.pin_weights && slice.reads_pinned_memory);
  input.slice = std::move(slice);
  return input;
}

SliceBounds slice_bounds(std::span<const std::int32_t> slices, std::size_t rank) {
  SliceBounds bounds;
  bounds.first_decoder_layer = std::accumulate(slices.begin(), slices.begin() + static_cast<std::ptrdiff_t>(rank), 0);
  bounds.num_decoder_layers = slices[rank];
  bounds.has_embedding = rank == 0;
  bounds.has_head = rank + 1 == slices.size();
  return bounds;
}

}  // namespace flexgen
