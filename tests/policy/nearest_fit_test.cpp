// The nearest policy that fits, of one rank. tests/app/policy_fit_test.cpp pastes what messages offer.
#include "policy/nearest_fit.hpp"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "tests/policy/plan_cases.hpp"

namespace flexgen::test {
namespace {

constexpr std::uint64_t plenty = 1ULL << 50;

OverflowUnder overflow_of_rank(const PlanInput& input, const Budgets& budgets) {
  return [trial = PlanInput(input), budgets](const Policy& policy) mutable {
    trial.policy = policy;
    return overflow_of(plan_memory(trial), budgets);
  };
}

bool fits(const PlanInput& input, const Policy& policy, const Budgets& budgets) {
  return !overflow_of_rank(input, budgets)(policy).any();
}

TEST(NearestFit, KeepsWhatFits) {
  const PlanInput input = plan_for("opt-1.3b", 12, 4, {20, 80, 50, 25, 0, 0});
  EXPECT_EQ(nearest_fit(input, {plenty, plenty, plenty}), input.policy);
}

TEST(NearestFit, MovesDownTheTiersBeforeItShrinksTheBlock) {
  const PlanInput input = plan_for("opt-6.7b", 8, 4, {100, 0, 100, 0, 100, 0});
  const Policy policy = nearest_fit(input, {12 * GiB, 200 * GiB, plenty}).value();
  EXPECT_EQ(policy.micro_batch_size, 8);
  EXPECT_EQ(policy.num_micro_batches, 4);
  EXPECT_LT(policy.placement.weights.ssd(), 1e-9);
  EXPECT_LT(policy.placement.weights.gpu_percent, 100);
}

TEST(NearestFit, MovesUpFromADiskThatIsTooSmall) {
  const PlanInput input = plan_for("opt-6.7b", 8, 4, {0, 0, 0, 0, 0, 0});
  for (const Budgets& budgets : {Budgets{12 * GiB, 200 * GiB, 0}, Budgets{100 * GiB, 1 * GiB, 0}}) {
    const Policy policy = nearest_fit(input, budgets).value();
    EXPECT_EQ(policy.block_rows(), 32);
    EXPECT_TRUE(fits(input, policy, budgets)) << to_flags(policy);
  }
}

// Two slots for weights in transit are more than the one layer of each kind that the model has.
TEST(NearestFit, WhatLiesInOnePlaceNeedsNoStaging) {
  PlanInput input = plan_for("opt-6.7b", 1, 1, {0, 0, 0, 0, 0, 0}, DType::float16, 8, 2, 1);
  input.model.num_layers = 1;
  input.slice = describe_slice(input.model, {0, 1, true, true}, true, Device{});
  PlanInput resident = input;
  resident.policy.placement = make_placement({100, 0, 100, 0, 100, 0});
  const Budgets budgets{plan_memory(resident).gpu.total(), plenty, plenty};
  ASSERT_FALSE(fits(input, input.policy, budgets));
  EXPECT_EQ(nearest_fit(input, budgets), resident.policy);
}

TEST(NearestFit, PercentagesAreThoseOfTheFlags) {
  PlanInput input = plan_for("opt-1.3b", 12, 4, {100.0 / 3, 200.0 / 3, 12.34567, 87.65433, 1e-5, 0});
  const Budgets budgets{1 * GiB, 4 * GiB, plenty};
  ASSERT_FALSE(fits(input, input.policy, budgets));
  const Placement at = nearest_fit(input, budgets).value().placement;
  for (const Share& share : {at.weights, at.cache, at.hidden}) {
    for (const double percent : {share.gpu_percent, share.dram_percent})
      EXPECT_EQ(percent, std::stod(fmt::format("{:g}", percent)));
    EXPECT_LE(share.gpu_percent + share.dram_percent, 100 + 1e-9);
  }
}

TEST(NearestFit, ACacheThatTheHostAttendsStaysOffTheDisk) {
  PlanInput input = plan_for("opt-1.3b", 12, 4, {0, 100, 0, 100, 0, 100});
  input.policy.host_attention_percent = 100;
  int num_kept = 0;
  for (const std::uint64_t dram : {64 * MiB, 256 * MiB, 1 * GiB, 3 * GiB})
    for (const std::uint64_t ssd : {0 * GiB, 2 * GiB, 20 * GiB}) {
      const Budgets budgets{1 * GiB, dram, ssd};
      if (const std::optional<Policy> near = nearest_fit(input, budgets)) {
        ++num_kept;
        EXPECT_LT(near->placement.cache.ssd(), 1e-9) << to_flags(*near);
        EXPECT_TRUE(near->uses_host_attention());
        EXPECT_TRUE(fits(input, *near, budgets));
      }
    }
  EXPECT_GT(num_kept, 4);
}

TEST(NearestOffer, ReadsPromptsInPartsWhereNothingElseHelps) {
  const PlanInput input = plan_for("opt-1.3b", 12, 4, {0, 0, 0, 0, 0, 0}, DType::float16, 2000, 32);
  PlanInput parts = input;
  parts.policy = least_policy(input.policy);
  parts.policy.token_budget = 16;
  const MemoryPlan plan = plan_memory(parts);
  const Budgets budgets{plan.gpu.total(), plan.dram.total(), plenty};
  EXPECT_FALSE(nearest_fit(input, budgets));
  const Policy offer = nearest_offer(input.policy, overflow_of_rank(input, budgets)).value();
  EXPECT_EQ(offer.token_budget, 16);
  EXPECT_TRUE(fits(input, offer, budgets));
}

TEST(NearestOffer, EndsForImpossibleBudgets) {
  for (const Budgets& budgets : {Budgets{0, 0, 0}, Budgets{0, plenty, plenty}, Budgets{1 * MiB, 1 * MiB, 1 * MiB}})
    for (const char* name : {"demo-model", "opt-175b"}) {
      const PlanInput input = plan_for(name, 48, 20, {10, 10, 10, 10, 10, 10});
      EXPECT_FALSE(nearest_offer(input.policy, overflow_of_rank(input, budgets)));
      EXPECT_FALSE(fits(input, least_policy(input.policy), budgets));
    }
}

TEST(NearestFit, DiskThatIsTooSmallIsNamed) {
  PlanInput input = plan_for("opt-30b", 4, 1, {0, 0, 0, 0, 0, 0});
  const Budgets budgets{15 * GiB, 20 * GiB, 1 * GiB};
  EXPECT_FALSE(nearest_fit(input, budgets));
  EXPECT_NE(explain_misfit(plan_memory(input), budgets).find("ssd needs"), std::string::npos);
}

}  // namespace
}  // namespace flexgen::test
