#include "policy/planner/stage_lines.hpp"

#include <gtest/gtest.h>

#include "policy/cost_model.hpp"
#include "tests/policy/planner/plan_ranks.hpp"

namespace flexgen::test {
namespace {

const ModelSpec& model() {
  static const ModelSpec spec = model_of("opt-6.7b");
  return spec;
}

StageInput stage_with(const PartShares& shares, bool host_attends, std::int64_t rows = 128) {
  const AlikeRows alike(rows, 256, 32);
  Policy policy = half_precision();
  policy.micro_batch_size = 16;
  policy.num_micro_batches = 4;
  policy.host_attention_percent = host_attends ? 100 : 0;
  place_parts(shares, policy);
  StageInput stage = rank_of(model(), alike.shape, {}).stage(policy, {0, model().num_layers, true, true});
  stage.plan.policy = policy;
  return stage;
}

const RooflineJob job{128, 256, 32};

double taken(const StageInput& stage, TierKind tier) {
  return static_cast<double>(plan_memory(stage.plan).tier(tier).total());
}

TEST(StageLines, PartsComeBack) {
  const PartShares shares{0.25, 0.125, 0.5, 0, 0.25};
  Policy policy;
  policy.host_attention_percent = 1;
  place_parts(shares, policy);
  const PartShares back = parts_of(policy);
  for (std::size_t i = 0; i < num_parts; ++i) EXPECT_NEAR(back[i], shares[i], 1e-12) << i;
  EXPECT_DOUBLE_EQ(policy.placement.weights.dram_percent, 62.5);
  EXPECT_DOUBLE_EQ(policy.host_attention_percent, 50);
}

TEST(StageLines, ASwitchThatIsOffStaysOff) {
  Policy policy;
  place_parts({0, 0, 0, 0, 0.5}, policy);
  EXPECT_FALSE(policy.uses_host_attention());
}

// Between the corners the lines say what the plan and the cost model say, but for matrices that the border of a tier
// cuts: the head's is the largest.
TEST(StageLines, AreRightBetweenTheCorners) {
  for (const bool host_attends : {false, true}) {
    const PartShares shares = host_attends ? PartShares{0.5, 0.25, 0.25, 0, 0.5} : PartShares{0.5, 0.25, 0.25, 0.5, 0};
    StageInput trial = stage_with({}, host_attends);
    const StageLines lines = lines_of(trial, job);
    const StageInput stage = stage_with(shares, host_attends);
    const auto needs = phase_needs(SweepCost(stage), job);
    for (const TierKind tier : {TierKind::gpu, TierKind::dram, TierKind::ssd}) {
      const double line = lines.memory[static_cast<std::size_t>(tier)].at(shares);
      EXPECT_NEAR(line, taken(stage, tier), 0.02 * taken(stage, tier) + (512 << 20)) << tier_name(tier);
    }
    for (std::size_t p = 0; p < num_phases; ++p)
      for (std::size_t c = 0; c < num_ceilings; ++c) {
        const double seconds = needs[p][c].seconds;
        EXPECT_NEAR(lines.phases[p][c].at(shares), seconds, 0.02 * seconds + 1e-3)
            << phase_name(static_cast<SweepPhase>(p)) << " " << ceiling_name(static_cast<Ceiling>(c));
      }
  }
}

}  // namespace
}  // namespace flexgen::test
