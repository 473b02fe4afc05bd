#include "policy/planner/plan_report.hpp"

namespace flexgen {
namespace {

PlannedTier describe_tier(TierKind tier, const TierDemand& demand, std::uint64_t budget) {
  return {std::string(tier_name(tier)),
          demand.home[0],
          demand.home[1],
          demand.home[2],
          demand.staging,
          demand.workspace,
          demand.total(),
          budget};
}

std::vector<PlannedPhase> describe_phases(const StageBound& bound) {
  std::vector<PlannedPhase> phases;
  for (const SweepPhase phase : {SweepPhase::prefill, SweepPhase::decode, SweepPhase::mixed}) {
    const PhaseBound& of = bound.of(phase);
    if (of.seconds <= 0) continue;
    PlannedPhase& described = phases.emplace_back();
    described.phase = phase_name(phase);
    described.least_seconds = of.seconds;
    for (std::size_t c = 0; c < num_ceilings; ++c)
      if (of.needs[c].amount > 0)
        described.resources.push_back(
            {std::string(ceiling_name(static_cast<Ceiling>(c))), of.needs[c].seconds, of.needs[c].amount});
  }
  return phases;
}

PlannedRank describe_rank(const RankToPlan& rank, const StageInput& stage, std::int32_t num_layers,
                          const StageBound& bound) {
  const MemoryPlan memory = plan_memory(stage.plan, stage.budgets);
  PlannedRank described{rank.host,      num_layers, to_flags(stage.plan.policy), {}, describe_phases(bound),
                        bound.seconds()};
  described.tiers = {describe_tier(TierKind::gpu, memory.gpu, stage.budgets.gpu_bytes),
                     describe_tier(TierKind::dram, memory.dram, stage.budgets.dram_bytes),
                     describe_tier(TierKind::ssd, memory.ssd, stage.budgets.ssd_bytes)};
  return described;
}

}  // namespace

PlannedWay describe_way(std::span<const RankToPlan> ranks, const PlannedJob& way, const RooflineJob& job) {
  const std::vector<StageInput> stages = stages_of(ranks, way.policy);
  const RunBound bound = bound_run(stages, job);
  PlannedWay described{way.prediction.seconds,
                       way.prediction.tokens_per_second,
                       bound.tokens_per_second,
                       std::string(ceiling_name(way.prediction.binding)),
                       std::string(phase_name(bound.phase)),
                       static_cast<std::int32_t>(bound.slowest),
                       {}};
  for (std::size_t r = 0; r < ranks.size(); ++r)
    described.ranks.push_back(describe_rank(ranks[r], stages[r], way.policy.slices[r], bound.stages[r]));
  return described;
}

}  // namespace flexgen
