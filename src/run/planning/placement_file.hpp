// A file with a placement for each rank, as `--percent FILE` reads it and `plan --save FILE` writes it.
//
//   {"slices": [16, 32],
//    "ranks": [{"percent": [20, 80, 0, 100, 100, 0], "cpu_attention_percent": 80, "sep_layer": false}, ...]}
//
// Slices, and of a rank all but its percent, may be left out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "policy/planner/plan_wishes.hpp"

namespace flexgen {

struct RankPlacements {
  std::vector<StageWishes> stages;                  // by rank
  std::optional<std::vector<std::int32_t>> slices;  // decoder layers by rank
};

/// Throws UserError: file where it cannot be read or is no such file, usage for a placement that is none.
RankPlacements read_placements(const std::string& path);
/// Replaces the file. Throws UserError (file).
void write_placements(const JobPolicy& policy, const std::string& path);

}  // namespace flexgen
