#include "policy/token_flow.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "policy/memory_plan.hpp"

namespace flexgen {
namespace {

// Rows of which the longest-lived makes no more than this times the mean end in step with those that began with them.
constexpr double most_of_mean = 1.1;

// Of two ways that differ by less than this part the one with the smaller budget is taken: it needs less memory.
constexpr double worth_memory = 0.003;

struct Flow {
  double rows = 0;   // in flight, of a group
  double waves = 0;  // of so many rows that the job has
  double life = 0;   // sweeps of a row
  RooflineJob job;
};

Flow flow_of(const PlanInput& plan) {
  const JobShape& job = plan.job;
  const auto num_rows = static_cast<double>(job.num_rows);
  const double groups = std::max(1, plan.policy.num_groups);
  Flow flow;
  flow.rows = std::min(num_rows / groups, static_cast<double>(plan.policy.block_rows()));
  flow.waves = num_rows / groups / flow.rows;
  flow.life = job.flight_sweeps / num_rows;
  const double shared = job.mean_shared_tokens(plan.policy.num_prefixes);
  flow.job = {job.num_rows, static_cast<double>(job.prompt_tokens) / num_rows - shared,
              static_cast<double>(job.new_tokens) / num_rows, 0, job.mean_decode_position()};
  return flow;
}

// Arithmetic and memory of the GPU are one resource here: what computes a prompt reads no cache meanwhile.
double seconds_of(const Needs& needs) {
  const auto at = [&](Ceiling ceiling) { return needs[static_cast<std::size_t>(ceiling)].seconds; };
  double longest = at(Ceiling::matrix) + at(Ceiling::gpu_memory);
  for (const Need& need : needs) longest = std::max(longest, need.seconds);
  return longest;
}

// Of the whole job where a wave of rows begins within `filling` sweeps. Rows that are alike end as they began.
double job_seconds(const SweepNeeds& needs, const Flow& flow, double filling) {
  const auto sweep = [&](double beginning, double decoding) { return seconds_of(needs(beginning, decoding)); };
  const double beginning = flow.rows / filling;
  const double full = (flow.life - filling) * sweep(0, flow.rows);
  const double ends = filling * (sweep(beginning, flow.rows / 2) + sweep(0, flow.rows / 2));
  return ends + full + (flow.waves - 1) * (filling * sweep(beginning, flow.rows) + full);
}

std::int32_t budget_of(const PlanInput& plan, const Flow& flow, double filling) {
  const std::int32_t rows = plan.policy.micro_batch_size;
  return rows + static_cast<std::int32_t>(std::ceil(rows * flow.job.prompt_tokens / filling));
}

bool fits(const StageInput& stage, std::int32_t budget) {
  PlanInput plan = stage.plan;
  plan.policy.token_budget = budget;
  return explain_misfit(plan_memory(plan), stage.budgets).empty();
}

bool are_alike(const JobShape& job) {
  const auto rows = static_cast<double>(job.num_rows);
  return job.max_new_tokens * rows <= most_of_mean * static_cast<double>(job.new_tokens);
}

}  // namespace

std::int32_t choose_token_budget(const StageInput& stage) {
  const Policy& policy = stage.plan.policy;
  const JobShape& job = stage.plan.job;
  if (policy.rule == BlockRule::fixed || policy.token_budget > 0 || !stage.plan.on_gpu) return 0;
  if (job.num_rows == 0 || job.scores || job.max_new_tokens < 2 || !are_alike(job)) return 0;
  const Flow flow = flow_of(stage.plan);
  const SweepNeeds needs = needs_of_sweeps(stage, flow.job);
  struct Way {
    double seconds;
    std::int32_t budget;
  };
  std::vector<Way> ways;  // by falling budget
  for (double filling = 1; filling <= flow.life; filling = std::max(filling + 1, std::floor(filling * 1.5)))
    ways.push_back({job_seconds(needs, flow, filling), budget_of(stage.plan, flow, filling)});
  // What is smaller needs less memory.
  const auto fitting = std::ranges::find_if(ways, [&](const Way& way) { return fits(stage, way.budget); });
  ways.erase(ways.begin(), fitting);
  if (ways.empty()) return 0;
  const double least = std::ranges::min_element(ways, {}, &Way::seconds)->seconds;
  std::erase_if(ways, [&](const Way& way) { return way.seconds > (1 + worth_memory) * least; });
  return ways.back().budget;
}

}  // namespace flexgen
