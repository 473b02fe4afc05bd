#include "policy/planner/slice_search.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "base/error.hpp"
#include "policy/token_flow.hpp"

namespace flexgen {
namespace {

constexpr double worth_a_layer = 1e-3;

double seconds_of(const std::optional<StageChoice>& choice) {
  return choice ? choice->seconds : std::numeric_limits<double>::infinity();
}

std::size_t slowest_of(const std::vector<std::optional<StageChoice>>& choices) {
  return static_cast<std::size_t>(std::ranges::max_element(choices, {}, seconds_of) - choices.begin());
}

// Whole layers, at least one each, with the sum that is wanted: what is cut off most is given back first.
std::vector<std::int32_t> whole_layers(const ProgramSolution& solution, std::int32_t num_layers) {
  std::vector<std::int32_t> slices;
  std::vector<std::pair<double, std::size_t>> cut_off;
  for (std::size_t r = 0; r < solution.stages.size(); ++r) {
    const double wanted = solution.stages[r].num_layers;
    slices.push_back(std::max(1, static_cast<std::int32_t>(std::floor(wanted + 1e-6))));
    cut_off.emplace_back(slices.back() - wanted, r);
  }
  std::ranges::sort(cut_off);
  std::int32_t left = num_layers - std::accumulate(slices.begin(), slices.end(), 0);
  for (std::size_t i = 0; left > 0; i = (i + 1) % slices.size(), --left) ++slices[cut_off[i].second];
  for (; left < 0; ++left) --*std::ranges::max_element(slices);
  return slices;
}

// Ranks whose hosts attend for a part of the rows do it for the same part.
JobPolicy cut_alike(JobPolicy policy, const CacheCut& cut) {
  policy.block.cache_cut = cut;
  for (StagePolicy& stage : policy.stages) {
    if (!stage.own_cut().is_cut()) continue;
    stage.placement.cache = {cut.gpu_percent, 100 - cut.gpu_percent};
    stage.host_attention_percent = cut.host_percent;
  }
  return policy;
}

// The largest that a stage chooses, as the slowest may be the one that wants it, if it fits all of them; else none.
std::int32_t common_token_budget(std::vector<StageInput>& stages) {
  std::int32_t budget = 0;
  for (const StageInput& stage : stages) budget = std::max(budget, choose_token_budget(stage));
  for (StageInput& stage : stages) {
    const std::int32_t own = std::exchange(stage.plan.policy.token_budget, budget);
    const bool fits = explain_misfit(plan_memory(stage.plan), stage.budgets).empty();
    stage.plan.policy.token_budget = own;
    if (!fits) return 0;
  }
  return budget;
}

}  // namespace

std::vector<StageInput> stages_of(std::span<const RankToPlan> ranks, const JobPolicy& policy) {
  std::vector<StageInput> stages;
  for (std::size_t r = 0; r < ranks.size(); ++r)
    stages.push_back(stage_in_pipeline(ranks[r], slice_bounds(policy.slices, r), policy.of_rank(r)));
  return stages;
}

std::optional<PlannedJob> SliceSearch::run(const Policy& sizes, double worst_seconds) {
  chosen_.clear();
  std::optional<Slices> slices = first_slices(sizes, worst_seconds);
  if (!slices) return std::nullopt;
  Choices choices = choose_all(*slices, sizes);
  if (!wishes_.slices)
    while (move_a_layer(*slices, choices, sizes)) {
    }
  for (const std::optional<StageChoice>& choice : choices)
    if (!choice) return std::nullopt;
  return predict(*slices, choices, sizes);
}

std::optional<SliceSearch::Slices> SliceSearch::first_slices(const Policy& sizes, double worst_seconds) {
  if (wishes_.slices) return wishes_.slices;
  if (ranks_.size() == 1) return Slices{model_.num_layers};
  std::optional<ProgramSolution> best;
  // Here all ranks switch alike; what each chooses for itself comes after.
  for (const StageSwitches& switches : switches_to_try(wishes_.of_rank(0))) {
    if (best && (switches.hidden == TierKind::ssd || switches.separate_layers == switches.host_attends)) continue;
    auto solution = share_out(sizes, switches);
    if (solution && (!best || solution->seconds < best->seconds)) best = std::move(solution);
  }
  if (!best || best->seconds > worst_seconds) return std::nullopt;
  return whole_layers(*best, model_.num_layers);
}

std::optional<ProgramSolution> SliceSearch::share_out(const Policy& sizes, const StageSwitches& switches) {
  std::vector<ProgramStage> stages;
  for (std::size_t r = 0; r < ranks_.size(); ++r) {
    Policy policy = sizes;
    apply_switches(switches, wishes_.of_rank(r), policy);
    stages.push_back(program_stage_of(r, policy));
  }
  return solve_shares(stages, model_.num_layers);
}

// Its lines, and what a layer more would add to them.
ProgramStage SliceSearch::program_stage_of(std::size_t rank, const Policy& policy) {
  const auto num_ranks = static_cast<std::int32_t>(ranks_.size());
  SliceBounds bounds{0, std::max(1, model_.num_layers / num_ranks), rank == 0, rank + 1 == ranks_.size()};
  ProgramStage stage = program_stage(shelf_.at(ranks_[rank], bounds, policy), job_, wishes_.of_rank(rank));
  stage.num_layers = bounds.num_decoder_layers;
  ++bounds.num_decoder_layers;
  StageLines more = lines_of(shelf_.at(ranks_[rank], bounds, policy), job_);
  for (std::size_t t = 0; t < num_tiers; ++t) more.memory[t].base -= stage.lines.memory[t].base;
  for (std::size_t p = 0; p < num_phases; ++p)
    for (std::size_t c = 0; c < num_ceilings; ++c) more.phases[p][c].base -= stage.lines.phases[p][c].base;
  stage.layer = more;
  return stage;
}

const std::optional<StageChoice>& SliceSearch::choose(std::size_t rank, const Slices& slices, const Policy& sizes) {
  const SliceBounds bounds = slice_bounds(slices, rank);
  const Key key{ranks_[rank].kind, bounds.num_decoder_layers, bounds.has_embedding, bounds.has_head,
                wishes_.stages.size() > 1 ? rank : 0};
  const auto known = chosen_.find(key);
  if (known != chosen_.end()) return known->second;
  const StageOf stage_of = [&](const Policy& policy) -> StageInput& { return shelf_.at(ranks_[rank], bounds, policy); };
  return chosen_.emplace(key, choose_stage(stage_of, sizes, job_, wishes_.of_rank(rank))).first->second;
}

SliceSearch::Choices SliceSearch::choose_all(const Slices& slices, const Policy& sizes) {
  Choices choices;
  for (std::size_t r = 0; r < ranks_.size(); ++r) choices.push_back(choose(r, slices, sizes));
  return choices;
}

// From the slowest rank to that which makes the most of it; false where it helps none.
bool SliceSearch::move_a_layer(Slices& slices, Choices& choices, const Policy& sizes) {
  const std::size_t from = slowest_of(choices);
  if (slices[from] <= 1) return false;
  double least = (1 - worth_a_layer) * seconds_of(choices[from]);
  std::size_t best = from;
  for (std::size_t to = 0; to < slices.size(); ++to) {
    if (to == from) continue;
    Slices moved = slices;
    --moved[from];
    ++moved[to];
    const double left_with = seconds_of(choose(from, moved, sizes));
    const double seconds = std::max(std::isinf(least) ? 0.0 : left_with, seconds_of(choose(to, moved, sizes)));
    if (seconds >= least) continue;
    least = seconds;
    best = to;
  }
  if (best == from) return false;
  --slices[from];
  ++slices[best];
  choices = choose_all(slices, sizes);
  return true;
}

std::optional<PlannedJob> SliceSearch::predict(const Slices& slices, const Choices& choices, const Policy& sizes) {
  JobPolicy policy{sizes, {}, slices};
  std::vector<CacheCut> cuts;
  for (const std::optional<StageChoice>& choice : choices) {
    policy.stages.push_back(choice->policy);
    const CacheCut cut = choice->policy.own_cut();
    if (cut.is_cut() && std::ranges::find(cuts, cut) == cuts.end()) cuts.push_back(cut);
  }
  if (ranks_.size() == 1 || cuts.empty()) return predict(std::move(policy));
  std::optional<PlannedJob> best;
  for (const CacheCut& cut : cuts) {
    std::optional<PlannedJob> job = predict(cut_alike(policy, cut));
    if (job && (!best || job->prediction.seconds < best->prediction.seconds)) best = std::move(job);
  }
  return best;
}

// None where it does not fit: rows were cut otherwise than a rank has chosen.
std::optional<PlannedJob> SliceSearch::predict(JobPolicy policy) {
  std::vector<StageInput> stages;
  for (std::size_t r = 0; r < ranks_.size(); ++r) {
    stages.push_back(shelf_.at(ranks_[r], slice_bounds(policy.slices, r), policy.of_rank(r)));
    if (ranks_.size() > 1 && !explain_misfit(plan_memory(stages.back().plan), stages.back().budgets).empty())
      return std::nullopt;
  }
  if (policy.block.token_budget == 0) policy.block.token_budget = common_token_budget(stages);
  for (StageInput& stage : stages) stage.plan.policy.token_budget = policy.block.token_budget;
  const Prediction prediction = predict_run(stages, job_);
  return PlannedJob{std::move(policy), prediction};
}

}  // namespace flexgen
