// The best that one stage can do with a slice and a block of given sizes: where its tensors lie and where it attends.
// Pure arithmetic.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "policy/planner/plan_wishes.hpp"
#include "policy/planner/share_program.hpp"

namespace flexgen {

struct StageChoice {
  StagePolicy policy;
  double seconds = 0;  // of the whole job, by the bounds of its resources
};

/// What is switched, not shared out.
struct StageSwitches {
  bool host_attends = false;
  bool separate_layers = true;
  TierKind hidden = TierKind::gpu;
};
/// All that the wishes leave open, what needs no link first.
std::vector<StageSwitches> switches_to_try(const StageWishes& wishes);
void apply_switches(const StageSwitches& switches, const StageWishes& wishes, Policy& policy);

/// What a stage is planned with under a policy: its slice depends on whether layers are separate. The reference is good
/// until the next call; its policy may be changed.
using StageOf = std::function<StageInput&(const Policy&)>;

/// As a programme's stage, its shares bounded by the wishes.
ProgramStage program_stage(StageInput& stage, const RooflineJob& job, const StageWishes& wishes);

/// The stage with the least seconds that fits its budgets; none where nothing does.
/// @param sizes  gives block, precision, overlap, and pinning
std::optional<StageChoice> choose_stage(const StageOf& stage_of, const Policy& sizes, const RooflineJob& job,
                                        const StageWishes& wishes);

}  // namespace flexgen
