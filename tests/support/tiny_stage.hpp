// What a stage of a tiny model with random weights is built from: one rank, on the host.
#pragma once

#include <array>

#include "base/bytes.hpp"
#include "engine/stage.hpp"
#include "model/slice_description.hpp"
#include "tests/support/scratch_place.hpp"
#include "tests/support/tiny_model.hpp"
#include "weights/weight_source.hpp"

namespace flexgen::test {

/// @param percent  of weights, cache and hidden states on gpu and dram; the rest lies in the scratch place
inline StageConfig tiny_stage(const std::array<double, 6>& percent, const ScratchPlace& scratch) {
  StageConfig config;
  const ModelSpec model = tiny_model(4);
  config.plan.bounds = {0, 4, true, true};
  Policy policy;
  policy.micro_batch_size = 8;
  policy.num_micro_batches = 2;
  policy.placement = make_placement(percent);
  config.plan.input =
      plan_input(model, describe_slice(model, config.plan.bounds, true, Device{}), policy, {24, 8, 31, 16});
  config.budgets = {GiB, GiB, GiB};
  config.plan.memory = plan_memory(config.plan.input, config.budgets);
  config.source = make_random_source();
  config.offload_dir = scratch.path();
  return config;
}

}  // namespace flexgen::test
