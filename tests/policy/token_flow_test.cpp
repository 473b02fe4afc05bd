// How fast a block of rows that are alike fills: at once where sweeps cost the same however full they are, evenly where
// prompts can hide behind the link and the host.
#include "policy/token_flow.hpp"

#include <gtest/gtest.h>

#include "tests/policy/plan_cases.hpp"

namespace flexgen::test {
namespace {

// Prompt 512, output 32.
StageInput stage_of(const std::string& model, std::int32_t b, std::int32_t k, const std::array<double, 6>& percent,
                    std::int64_t num_rows) {
  StageInput stage;
  stage.plan = plan_for(model, b, k, percent);
  stage.plan.on_gpu = true;
  stage.plan.job = {};
  stage.plan.job.add_rows(512, 32, num_rows);
  stage.ceilings = big_gpu();
  stage.budgets = {64ULL << 30, 400ULL << 30, 400ULL << 30};
  return stage;
}

StageInput opt_30b_in_4_bits(std::int64_t num_rows) {
  StageInput stage = stage_of("opt-30b", 48, 8, {70, 30, 0, 100, 0, 100}, num_rows);
  stage.plan.policy.weight_format = stage.plan.policy.cache_format = QuantFormat{4, 64};
  stage.plan.policy.host_attention_percent = 56;
  return stage;
}

TEST(TokenFlow, AllAtOnceWhereAllLiesOnTheGpu) {
  for (const std::int64_t rows : {8, 32})
    EXPECT_EQ(choose_token_budget(stage_of("opt-6.7b", 8, 1, {100, 0, 100, 0, 100, 0}, rows)), 8 + 8 * 512) << rows;
}

TEST(TokenFlow, EvenlyWhereCachesComeOverTheLink) {
  const std::int32_t budget = choose_token_budget(opt_30b_in_4_bits(4 * 384));
  EXPECT_GE(budget, 48 + 48 * 512 / 32);
  EXPECT_LE(budget, 48 + 48 * 512 / 20);
}

TEST(TokenFlow, AtOnceWhereEverySweepCostsItsWeights) {
  EXPECT_GE(choose_token_budget(stage_of("opt-30b", 32, 3, {18, 82, 0, 100, 0, 100}, 96)), 32 + 32 * 512 / 4);
}

TEST(TokenFlow, WhatDoesNotFitIsNotChosen) {
  StageInput stage = stage_of("opt-6.7b", 8, 1, {100, 0, 100, 0, 100, 0}, 32);
  stage.plan.policy.token_budget = 8 + 8 * 512;
  stage.budgets.gpu_bytes = plan_memory(stage.plan).gpu.total() - 1;
  stage.plan.policy.token_budget = 0;
  const std::int32_t budget = choose_token_budget(stage);
  EXPECT_GT(budget, 8);
  EXPECT_LT(budget, 8 + 8 * 512);
  stage.budgets.gpu_bytes = 1;
  EXPECT_EQ(choose_token_budget(stage), 0);
}

TEST(TokenFlow, OthersAreLeftAlone) {
  StageInput stage = opt_30b_in_4_bits(4 * 384);
  stage.plan.job.add_rows(512, 256, 100);
  EXPECT_EQ(choose_token_budget(stage), 0) << "rows that are not alike";
  stage = opt_30b_in_4_bits(4 * 384);
  stage.plan.policy.token_budget = 500;
  EXPECT_EQ(choose_token_budget(stage), 0) << "a budget was given";
  stage = opt_30b_in_4_bits(4 * 384);
  stage.plan.policy.rule = BlockRule::fixed;
  EXPECT_EQ(choose_token_budget(stage), 0);
  stage = opt_30b_in_4_bits(4 * 384);
  stage.plan.on_gpu = false;
  EXPECT_EQ(choose_token_budget(stage), 0);
}

}  // namespace
}  // namespace flexgen::test
