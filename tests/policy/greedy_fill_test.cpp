#include "policy/greedy_fill.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>

#include "policy/nearest_fit.hpp"
#include "tests/policy/plan_cases.hpp"

namespace flexgen::test {
namespace {

using test::plan_for;

const std::array<double, 6> resident{100, 0, 100, 0, 100, 0};

PlanInput with(PlanInput input, const Policy& policy) {
  input.policy = policy;
  return input;
}

void expect_fits(const PlanInput& input, const Policy& policy, const Budgets& budgets) {
  EXPECT_EQ(explain_misfit(plan_memory(with(input, policy)), budgets), "") << to_flags(policy);
}

TEST(GreedyFill, WhateverItGivesFits) {
  int num_impossible = 0;
  for (const char* name : {"demo-model", "opt-125m", "opt-1.3b", "opt-6.7b", "opt-30b", "opt-175b"})
    for (const std::uint64_t gpu : {64 * MiB, 1 * GiB, 6 * GiB, 15 * GiB, 80 * GiB})
      for (const std::uint64_t dram : {200 * MiB, 8 * GiB, 100 * GiB, 500 * GiB})
        for (const bool on_gpu : {true, false}) {
          PlanInput input = plan_for(name, 1, 1, resident);
          input.on_gpu = on_gpu;
          const Budgets budgets{gpu, dram, 2000 * GiB};
          SCOPED_TRACE(std::string(name) + " " + format_bytes(gpu) + " " + format_bytes(dram));
          const Policy policy = greedy_fill(input, budgets);
          EXPECT_LE(policy.micro_batch_size, input.job.num_rows);
          EXPECT_EQ(policy.dtype, input.policy.dtype);
          if (nearest_fit(with(input, policy), budgets)) {
            expect_fits(input, policy, budgets);
            continue;
          }
          ++num_impossible;
          EXPECT_EQ(policy.placement, make_placement({0, 0, 0, 0, 0, 0}));
          EXPECT_EQ(policy.block_rows(), 1);
        }
  EXPECT_GT(num_impossible, 0) << "no budget was too small: the refusal is not tested";
  EXPECT_LT(num_impossible, 100);
}

TEST(GreedyFill, SmallModelsOnLargeGpusStayThere) {
  for (const char* name : {"demo-model", "opt-125m", "opt-350m", "opt-1.3b"}) {
    const PlanInput input = plan_for(name, 1, 1, resident);
    const Policy policy = greedy_fill(input, {80 * GiB, 100 * GiB, 100 * GiB});
    EXPECT_EQ(policy.placement, make_placement(resident)) << name;
    EXPECT_EQ(policy.num_micro_batches, 1) << name;
    EXPECT_GE(policy.micro_batch_size, 32) << name;
  }
}

TEST(GreedyFill, TheGpuIsFilledFirst) {
  for (const char* name : {"opt-6.7b", "opt-13b", "opt-30b"}) {
    PlanInput input = plan_for(name, 1, 1, resident);
    input.on_gpu = true;
    const Budgets budgets{10 * GiB, 300 * GiB, 1000 * GiB};
    const Policy policy = greedy_fill(input, budgets);
    const MemoryPlan plan = plan_memory(with(input, policy));
    EXPECT_GT(plan.gpu.home[0], 0U) << to_flags(policy);
    EXPECT_GT(static_cast<double>(plan.gpu.total()), 0.85 * static_cast<double>(budgets.gpu_bytes)) << to_flags(policy);
    EXPECT_EQ(plan.ssd.total(), 0U) << "there is room in dram; " << to_flags(policy);
  }
}

TEST(GreedyFill, Opt30bOnASmallGpuAndALargeHost) {
  PlanInput input = plan_for("opt-30b", 1, 1, resident);
  input.on_gpu = true;
  const Budgets budgets{15 * GiB, 100 * GiB, 500 * GiB};
  const Policy policy = greedy_fill(input, budgets);
  expect_fits(input, policy, budgets);
  const Placement& at = policy.placement;
  EXPECT_LT(at.weights.ssd(), 1e-9) << to_flags(policy);
  EXPECT_GT(at.weights.dram_percent, 60) << to_flags(policy);
  EXPECT_GT(at.weights.gpu_percent, 3) << to_flags(policy);
  EXPECT_LT(at.cache.ssd(), 1e-9) << to_flags(policy);
  EXPECT_GE(policy.block_rows(), 48) << "a small block wastes the weights' bandwidth: " << to_flags(policy);
}

TEST(GreedyFill, TinyBudgetsGoToTheDisk) {
  PlanInput input = plan_for("opt-6.7b", 1, 1, resident);
  const Budgets budgets{2 * GiB, 2 * GiB, 500 * GiB};
  const Policy policy = greedy_fill(input, budgets);
  expect_fits(input, policy, budgets);
  EXPECT_GT(policy.placement.weights.ssd(), 0.5) << to_flags(policy);
}

TEST(GreedyFill, SharesAreWrittenWithOneDecimal) {
  // What the log shows must be what runs.
  for (const char* name : {"opt-1.3b", "opt-30b"})
    for (const std::uint64_t gpu : {3 * GiB, 7 * GiB, 15 * GiB}) {
      const PlanInput input = plan_for(name, 1, 1, resident);
      const Policy policy = greedy_fill(input, {gpu, 40 * GiB, 500 * GiB});
      for (const Share& share : {policy.placement.weights, policy.placement.cache, policy.placement.hidden})
        for (const double percent : {share.gpu_percent, share.dram_percent})
          EXPECT_NEAR(percent * 10, std::round(percent * 10), 1e-6) << to_flags(policy);
    }
}

TEST(GreedyFill, TheBlockIsNoLargerThanTheJob) {
  for (const std::int64_t rows : {1, 3, 10, 17}) {
    const PlanInput input = plan_for("opt-6.7b", 1, 1, resident, DType::float16, 512, 32, rows);
    const Policy policy = greedy_fill(input, {8 * GiB, 100 * GiB, 100 * GiB});
    EXPECT_LE(policy.block_rows(), rows) << to_flags(policy);
    EXPECT_GE(policy.block_rows() * 2, rows) << to_flags(policy);
  }
}

TEST(GreedyFill, GroupsShareTheJob) {
  PlanInput input = plan_for("demo-model", 1, 1, resident, DType::float16, 64, 16, 12);
  input.policy.num_groups = 3;
  const Policy policy = greedy_fill(input, {8 * GiB, 8 * GiB, 8 * GiB});
  EXPECT_EQ(policy.block_rows(), 4) << "one block per stage keeps every stage busy";
}

TEST(GreedyFill, ALargerGpuNeverMeansASmallerStreamedBlock) {
  for (const char* name : {"opt-1.3b", "opt-6.7b", "opt-30b"}) {
    std::int64_t last_rows = 0;
    for (std::uint64_t gpu = 1200 * MiB; gpu < 26 * GiB; gpu += 517 * MiB) {
      PlanInput input = plan_for(name, 1, 1, resident);
      input.on_gpu = true;
      const Budgets budgets{gpu, 60 * GiB, 500 * GiB};
      const Policy policy = greedy_fill(input, budgets);
      if (!explain_misfit(plan_memory(with(input, policy)), budgets).empty()) {
        EXPECT_EQ(last_rows, 0) << name << " fits a smaller gpu than " << format_bytes(gpu);
        continue;
      }
      if (policy.placement == make_placement(resident)) break;  // nothing streams: the block need not be large
      EXPECT_GE(policy.block_rows(), last_rows) << name << " " << format_bytes(gpu) << ": " << to_flags(policy);
      last_rows = policy.block_rows();
    }
    EXPECT_GE(last_rows, 32) << name;
  }
}

TEST(GreedyPlacement, KeepsTheSizesThatWereGiven) {
  for (const std::uint64_t gpu : {4 * GiB, 15 * GiB, 80 * GiB}) {
    const PlanInput input = plan_for("opt-6.7b", 4, 6, resident);
    const Budgets budgets{gpu, 200 * GiB, 500 * GiB};
    const Policy policy = greedy_placement(input, budgets);
    EXPECT_EQ(policy.micro_batch_size, 4);
    EXPECT_EQ(policy.num_micro_batches, 6);
    expect_fits(input, policy, budgets);
  }
  const PlanInput input = plan_for("opt-6.7b", 4, 6, resident);
  EXPECT_EQ(greedy_placement(input, {80 * GiB, 0, 0}).placement, make_placement(resident));
}

TEST(GreedyPlacement, ShrinksTheBlockOnlyWhenNothingElseFits) {
  const PlanInput input = plan_for("opt-6.7b", 64, 8, resident);
  const Budgets budgets{2 * GiB, 4 * GiB, 1000 * GiB};
  const Policy policy = greedy_placement(input, budgets);
  expect_fits(input, policy, budgets);
  EXPECT_LT(policy.block_rows(), 512);
}

TEST(GreedyPlacement, FillsBudgetsThatTheClassesExactlyNeed) {
  // Budgets that are met to the byte by some placement: rounding must not throw the plan over the edge.
  for (const double gpu_percent : {10.0, 35.0, 62.5})
    for (const std::int32_t rows : {1, 3, 16}) {
      const PlanInput wanted = plan_for("opt-1.3b", rows, 2, {gpu_percent, 100 - gpu_percent, 0, 100, 100, 0});
      const MemoryPlan plan = plan_memory(wanted);
      const Budgets budgets{plan.gpu.total(), plan.dram.total() + plan.gpu.total(), 100 * GiB};
      const Policy policy = greedy_placement(wanted, budgets);
      expect_fits(wanted, policy, budgets);
      EXPECT_EQ(policy.micro_batch_size, rows);
      EXPECT_EQ(policy.num_micro_batches, 2);
      EXPECT_LT(policy.placement.weights.ssd() + policy.placement.cache.ssd(), 0.02) << to_flags(policy);
    }
}

TEST(GreedyFill, IsQuick) {
  const auto begin = std::chrono::steady_clock::now();
  const PlanInput input = plan_for("opt-175b", 1, 1, resident, DType::float16, 512, 32, 1'000'000);
  greedy_fill(input, {15 * GiB, 500 * GiB, 2000 * GiB});
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(), 2);
}

}  // namespace
}  // namespace flexgen::test
