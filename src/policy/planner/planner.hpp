// The best policy of a job on the machines at hand: sizes of a block for all ranks, and each rank's slice, placement
// and switches, such that the job is predicted to take least time and every rank keeps its budgets.
//
// For given sizes of a block a linear programme shares out layers, weights and cache (share_program); sizes are
// searched from a coarse grid down to the best one's neighbours. What a programme promises is planned exactly and
// predicted by the cost model before it counts. Pure arithmetic; deterministic; no Torch, CUDA or MPI.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "policy/planner/slice_search.hpp"

namespace flexgen {

struct JobPlan {
  std::vector<PlannedJob> ways;  // by predicted seconds, none alike in sizes of the block; empty: nothing fits
  std::int64_t num_tried = 0;    // sizes of a block that were planned
};

/// What is to be planned.
struct PlanQuestion {
  ModelSpec model;
  JobShape shape;
  RooflineJob job;
  Policy sizes;  // what no wish is about: precision, rule, groups, sharing, overlap, pinning, a token budget
  PlanWishes wishes;
};

/// @param most_ways  of the result
JobPlan plan_job(std::span<const RankToPlan> ranks, const PlanQuestion& question, std::size_t most_ways = 4);

}  // namespace flexgen
