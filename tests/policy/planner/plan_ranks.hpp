// Ranks of made-up machines, for the tests of the planner.
#pragma once

#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "policy/planner/planner.hpp"
#include "policy/token_flow.hpp"
#include "tests/policy/plan_cases.hpp"

namespace flexgen::test {

struct MadeUpMachine {
  Budgets budgets{15ULL << 30, 120ULL << 30, 0};
  Ceilings ceilings = big_gpu();
  bool on_gpu = true;
};

/// A job of rows that are alike.
struct AlikeRows {
  JobShape shape;
  RooflineJob job;
  AlikeRows(std::int64_t rows, std::int32_t prompt, std::int32_t generated)
      : shape{prompt, generated, prompt + generated - 1, 0},
        job{rows, static_cast<double>(prompt), static_cast<double>(generated)} {
    shape.add_rows(prompt, generated, rows);
  }
};

inline RankToPlan rank_of(const ModelSpec& model, const JobShape& shape, const MadeUpMachine& machine,
                          std::int32_t kind = 0) {
  return {[=](const Policy& policy, const SliceBounds& bounds) {
            StageInput stage;
            SliceDescription slice = describe_slice(model, bounds, policy.separate_layers, Device{});
            slice.num_loop_threads = 2;
            stage.plan = plan_input(model, std::move(slice), policy, shape);
            stage.plan.on_gpu = stage.plan.wants_plain_layer = machine.on_gpu;
            stage.budgets = machine.budgets;
            stage.ceilings = machine.ceilings;
            return stage;
          },
          kind, "box " + std::to_string(kind)};
}

inline std::vector<RankToPlan> ranks_of(const ModelSpec& model, const JobShape& shape,
                                        const std::vector<MadeUpMachine>& machines) {
  std::vector<RankToPlan> ranks;
  for (const MadeUpMachine& machine : machines)
    ranks.push_back(rank_of(model, shape, machine, static_cast<std::int32_t>(ranks.size())));
  return ranks;
}

inline Policy half_precision(std::size_t num_ranks = 1) {
  Policy sizes;
  sizes.dtype = DType::float16;
  sizes.num_groups = static_cast<std::int32_t>(num_ranks);
  return sizes;
}

inline StageInput stage_under(const RankToPlan& rank, const JobPolicy& policy, std::size_t index = 0) {
  return rank.stage(policy.of_rank(index), slice_bounds(policy.slices, index));
}

}  // namespace flexgen::test
