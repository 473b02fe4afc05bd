#include "policy/planner/stage_choice.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/bytes.hpp"
#include "policy/cost_model.hpp"
#include "policy/planner/share_program.hpp"

namespace flexgen {
namespace {

constexpr int most_tightenings = 6;
constexpr double host_switch_percent = 100;  // of a policy whose host attends, before its share is chosen

// To a tenth of a percent, as flags print it, and never more on the scarcer tier.
double tenth_down(double percent) { return std::floor(percent * 10 + 1e-6) / 10; }

void round_share(Share& share) {
  const double ssd = share.ssd() < 5e-4 ? 0 : std::ceil(1000 * share.ssd() - 1e-6) / 10;
  share.gpu_percent = tenth_down(share.gpu_percent);
  share.dram_percent = std::max(0.0, 100 - share.gpu_percent - ssd);
  share.dram_percent = std::round(share.dram_percent * 10) / 10;
}

void round_policy(StagePolicy& policy) {
  round_share(policy.placement.weights);
  round_share(policy.placement.cache);
  if (policy.uses_host_attention())
    policy.host_attention_percent = std::clamp(std::round(policy.host_attention_percent), 1.0, 100.0);
}

// What the wishes settle, as bounds of the shares.
void bound_parts(const StageWishes& wishes, const Policy& policy, ProgramStage& stage) {
  const auto fix = [&](Part part, double share) {
    const auto i = static_cast<std::size_t>(part);
    stage.least[i] = stage.most[i] = share;
  };
  if (wishes.placement) {
    Policy wanted = policy;
    wanted.placement = *wishes.placement;
    const PartShares shares = parts_of(wanted);
    for (const Part part : {Part::weights_gpu, Part::weights_ssd, Part::cache_gpu, Part::cache_ssd})
      fix(part, shares[static_cast<std::size_t>(part)]);
  }
  if (!policy.uses_host_attention()) fix(Part::cache_host, 0);
  else fix(Part::cache_ssd, 0);
}

class StageSearch {
 public:
  StageSearch(StageInput& stage, const RooflineJob& job, const StageWishes& wishes, bool uses_disk)
      : stage_(stage), job_(job), wishes_(wishes), program_(program_stage(stage, job, wishes)) {
    if (uses_disk || wishes.placement) return;
    for (const Part part : {Part::weights_ssd, Part::cache_ssd}) program_.most[static_cast<std::size_t>(part)] = 0;
  }

  // The programme knows no whole rows, heads and buffers: where its solution does not fit, it is given less. Nothing
  // where it takes `worst_seconds` at least: the programme's time is a lower bound.
  std::optional<StageChoice> run(double worst_seconds) {
    Policy& policy = stage_.plan.policy;
    for (int i = 0; i < most_tightenings; ++i) {
      const auto solution = solve_shares({&program_, 1}, program_.num_layers);
      if (!solution || solution->seconds > worst_seconds) return std::nullopt;
      place_parts(solution->stages.front().shares, policy);
      round_policy(policy);
      if (wishes_.placement) policy.placement = *wishes_.placement;
      if (wishes_.host_attention_percent) policy.host_attention_percent = *wishes_.host_attention_percent;
      const SweepCost cost(stage_);
      if (!tighten(cost.memory())) return StageChoice{policy, phase_seconds(cost, job_)};
    }
    return std::nullopt;
  }

 private:
  // Whether anything overflowed.
  bool tighten(const MemoryPlan& memory) {
    bool is_over = false;
    const std::array budgets{stage_.budgets.gpu_bytes, stage_.budgets.dram_bytes, stage_.budgets.ssd_bytes};
    for (std::size_t t = 0; t < num_tiers; ++t) {
      const std::uint64_t taken = memory.tier(static_cast<TierKind>(t)).total();
      if (taken <= budgets[t]) continue;
      program_.budgets[t] -= 1.02 * static_cast<double>(taken - budgets[t]);
      is_over = true;
    }
    return is_over;
  }

  StageInput& stage_;
  const RooflineJob& job_;
  const StageWishes& wishes_;
  ProgramStage program_;
};

bool is_better(const std::optional<StageChoice>& one, const std::optional<StageChoice>& than) {
  constexpr double worth_a_switch = 1e-3;
  return one && (!than || one->seconds < (1 - worth_a_switch) * than->seconds);
}

}  // namespace

std::vector<StageSwitches> switches_to_try(const StageWishes& wishes) {
  std::vector<StageSwitches> all;
  for (const TierKind hidden : {TierKind::gpu, TierKind::dram, TierKind::ssd}) {
    if (wishes.placement && hidden != TierKind::gpu) break;  // as the wishes say
    for (const bool host_attends : {false, true}) {
      if (wishes.host_attention_percent && host_attends != (*wishes.host_attention_percent > 0)) continue;
      if (host_attends && wishes.placement && wishes.placement->cache.ssd() > 1e-9) continue;  // out of its reach
      // With two layers the host idles once per layer; one layer needs room for more weights at a time.
      if (host_attends && !wishes.separate_layers.value_or(false)) all.push_back({true, false, hidden});
      if (wishes.separate_layers.value_or(true)) all.push_back({host_attends, true, hidden});
      else if (!host_attends) all.push_back({false, false, hidden});
    }
  }
  return all;
}

void apply_switches(const StageSwitches& switches, const StageWishes& wishes, Policy& policy) {
  policy.separate_layers = switches.separate_layers;
  policy.host_attention_percent = 0;
  if (switches.host_attends)
    policy.host_attention_percent = wishes.host_attention_percent.value_or(host_switch_percent);
  policy.placement.hidden = {switches.hidden == TierKind::gpu ? 100.0 : 0.0,
                             switches.hidden == TierKind::dram ? 100.0 : 0.0};
  if (wishes.placement) policy.placement = *wishes.placement;
}

ProgramStage program_stage(StageInput& stage, const RooflineJob& job, const StageWishes& wishes) {
  ProgramStage program;
  bound_parts(wishes, stage.plan.policy, program);
  program.lines = lines_of(stage, job);
  program.groups = serial_groups(stage);
  program.budgets = {static_cast<double>(stage.budgets.gpu_bytes), static_cast<double>(stage.budgets.dram_bytes),
                     static_cast<double>(stage.budgets.ssd_bytes)};
  return program;
}

std::optional<StageChoice> choose_stage(const StageOf& stage_of, const Policy& sizes, const RooflineJob& job,
                                        const StageWishes& wishes) {
  std::optional<StageChoice> best;
  // A disk is written to for hours only where the block fits nowhere else.
  for (const bool uses_disk : {false, true}) {
    for (const StageSwitches& switches : switches_to_try(wishes)) {
      if (switches.hidden == TierKind::ssd && (best || !uses_disk)) break;
      Policy policy = sizes;
      apply_switches(switches, wishes, policy);
      const double worst_seconds = best ? best->seconds : std::numeric_limits<double>::infinity();
      std::optional<StageChoice> found = StageSearch(stage_of(policy), job, wishes, uses_disk).run(worst_seconds);
      if (is_better(found, best)) best = found;
    }
    if (best) break;
  }
  return best;
}

}  // namespace flexgen
