// The best that the ranks of a pipeline can do together with a block of given sizes: which layers each takes, and what
// each makes of them. Pure arithmetic; deterministic.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <tuple>
#include <vector>

#include "policy/cost_model.hpp"
#include "policy/planner/stage_choice.hpp"
#include "policy/planner/stage_shelf.hpp"
#include "policy/stage_plan.hpp"

namespace flexgen {

/// A way to run the job.
struct PlannedJob {
  JobPolicy policy;
  Prediction prediction;
};

/// The stages of a policy, as bound_run and predict_run want them.
std::vector<StageInput> stages_of(std::span<const RankToPlan> ranks, const JobPolicy& policy);

class SliceSearch {
 public:
  /// Refers to all of them.
  SliceSearch(std::span<const RankToPlan> ranks, const ModelSpec& model, const RooflineJob& job,
              const PlanWishes& wishes)
      : ranks_(ranks), model_(model), job_(job), wishes_(wishes) {}

  /// None where nothing fits, or where even the bound is above `worst_seconds`.
  std::optional<PlannedJob> run(const Policy& sizes, double worst_seconds);

 private:
  using Slices = std::vector<std::int32_t>;
  using Choices = std::vector<std::optional<StageChoice>>;

  std::optional<Slices> first_slices(const Policy& sizes, double worst_seconds);
  std::optional<ProgramSolution> share_out(const Policy& sizes, const StageSwitches& switches);
  ProgramStage program_stage_of(std::size_t rank, const Policy& policy);
  const std::optional<StageChoice>& choose(std::size_t rank, const Slices& slices, const Policy& sizes);
  Choices choose_all(const Slices& slices, const Policy& sizes);
  bool move_a_layer(Slices& slices, Choices& choices, const Policy& sizes);
  std::optional<PlannedJob> predict(const Slices& slices, const Choices& choices, const Policy& sizes);
  std::optional<PlannedJob> predict(JobPolicy policy);

  std::span<const RankToPlan> ranks_;
  const ModelSpec& model_;
  const RooflineJob& job_;
  const PlanWishes& wishes_;
  StageShelf shelf_;
  using Key = std::tuple<std::int32_t, std::int32_t, bool, bool, std::size_t>;  // of one run
  std::map<Key, std::optional<StageChoice>> chosen_;
};

}  // namespace flexgen
