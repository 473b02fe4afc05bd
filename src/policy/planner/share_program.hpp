// The linear programme of a pipeline whose block and switches are fixed: how many layers each stage takes and where
// their weights and cache lie, such that the slowest stage takes least time and every tier keeps its budget.
// Pure arithmetic.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "policy/planner/stage_lines.hpp"

namespace flexgen {

/// A stage in the programme. Lines belong to a slice of `num_layers` layers; with `layer`, what one layer more adds to
/// their bases, another number may be chosen, and slopes then grow as the layers do.
struct ProgramStage {
  StageLines lines;
  std::int32_t num_layers = 1;
  std::optional<StageLines> layer;
  std::array<double, num_tiers> budgets{};   // bytes
  std::vector<std::vector<Ceiling>> groups;  // resources that take turns; groups work side by side
  PartShares least{};                        // bounds of the shares, what the user has settled
  PartShares most{1, 1, 1, 1, 1};
};

struct StageShares {
  double num_layers = 0;
  PartShares shares{};
};

struct ProgramSolution {
  double seconds = 0;  // of the slowest stage
  std::vector<StageShares> stages;
};

/// None where no shares keep all budgets.
/// @param num_layers  of the model: the sum over stages
std::optional<ProgramSolution> solve_shares(std::span<const ProgramStage> stages, std::int32_t num_layers);

}  // namespace flexgen
