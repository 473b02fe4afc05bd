#include "run/planning/replan.hpp"

#include "policy/cost_model.hpp"

namespace flexgen {
namespace {

// What is gained must be more than what the model may be wrong by between ways so alike.
constexpr double worth_changing = 0.97;
// Prompts are not read in smaller pieces beside a full micro-batch: a sweep of so few costs the same.
constexpr std::int32_t least_prompt_tokens = 64;

}  // namespace

std::int32_t choose_tokens(std::vector<StageInput> stages, const RooflineJob& job, std::int32_t planned) {
  const Policy& policy = stages.front().plan.policy;
  if (policy.rule == BlockRule::fixed) return planned;
  const std::int32_t least = policy.micro_batch_size + least_prompt_tokens;
  const auto seconds_with = [&](std::int32_t tokens) {
    for (StageInput& stage : stages) stage.plan.policy.token_budget = tokens;
    return predict_run(stages, job).seconds;
  };
  std::int32_t best = planned;
  double best_seconds = worth_changing * seconds_with(planned);
  for (std::int32_t tokens = planned * 3 / 4; tokens >= least; tokens = tokens * 3 / 4)
    if (const double seconds = seconds_with(tokens); seconds < best_seconds) {
      best = tokens;
      best_seconds = seconds;
    }
  return best;
}

}  // namespace flexgen
