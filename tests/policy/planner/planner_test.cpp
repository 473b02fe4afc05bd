#include "policy/planner/planner.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "base/error.hpp"
#include "policy/nearest_fit.hpp"
#include "policy/planner/what_if.hpp"
#include "tests/policy/planner/plan_ranks.hpp"

namespace flexgen::test {
namespace {

JobPlan plan_alone(const ModelSpec& model, const MadeUpMachine& machine, const AlikeRows& rows,
                   const PlanWishes& wishes = {}) {
  return plan_job(ranks_of(model, rows.shape, {machine}), {model, rows.shape, rows.job, half_precision(), wishes});
}

MadeUpMachine slow_box() {
  MadeUpMachine box;
  box.ceilings.matrix_operations /= 4;
  box.ceilings.gpu_memory_bytes /= 4;
  box.ceilings.host_to_gpu_bytes /= 4;
  box.ceilings.gpu_to_host_bytes /= 4;
  box.ceilings.both_directions_bytes /= 4;
  box.ceilings.host_read_bytes /= 4;
  box.ceilings.host_copy_bytes /= 4;
  box.budgets = {8ULL << 30, 60ULL << 30, 0};
  return box;
}

void expect_fits(const std::vector<RankToPlan>& ranks, const JobPolicy& policy) {
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    const StageInput stage = stage_under(ranks[r], policy, r);
    EXPECT_EQ(explain_misfit(plan_memory(stage.plan), stage.budgets), "") << r;
  }
}

TEST(Planner, ASmallModelLiesOnTheGpu) {
  const JobPlan plan = plan_alone(model_of("opt-1.3b"), {}, AlikeRows(64, 128, 32));
  ASSERT_FALSE(plan.ways.empty());
  const StagePolicy& best = plan.ways.front().policy.stages.front();
  EXPECT_EQ(best.placement, make_placement({100, 0, 100, 0, 100, 0}));
  EXPECT_FALSE(best.uses_host_attention());
}

TEST(Planner, FindsWhatHandsHaveFound) {
  // OPT-30B in half precision on 15 GiB: some 20 % of the weights stay, four fifths of the cache are the host's.
  const AlikeRows rows(384, 512, 32);
  const ModelSpec model = model_of("opt-30b");
  const JobPlan plan = plan_alone(model, {}, rows);
  ASSERT_FALSE(plan.ways.empty());
  const JobPolicy& best = plan.ways.front().policy;
  expect_fits(ranks_of(model, rows.shape, {MadeUpMachine{}}), best);
  EXPECT_NEAR(best.stages.front().placement.weights.gpu_percent, 20, 6);
  EXPECT_GT(best.stages.front().host_attention_percent, 50);
  EXPECT_GT(best.block.block_rows(), 80);
  EXPECT_GT(plan.ways.front().prediction.tokens_per_second, 60);
}

TEST(Planner, WishesAreKept) {
  const ModelSpec model = model_of("opt-6.7b");
  const AlikeRows rows(200, 256, 32);
  PlanWishes wishes;
  wishes.micro_batch_size = 7;
  wishes.stages = {{make_placement({30, 70, 20, 80, 100, 0}), 40.0, true}};
  const JobPlan plan = plan_alone(model, {}, rows, wishes);
  ASSERT_FALSE(plan.ways.empty());
  for (const PlannedJob& way : plan.ways) {
    EXPECT_EQ(way.policy.block.micro_batch_size, 7);
    EXPECT_EQ(way.policy.stages.front().placement, *wishes.stages.front().placement);
    EXPECT_EQ(way.policy.stages.front().host_attention_percent, 40);
    EXPECT_TRUE(way.policy.stages.front().separate_layers);
  }
  PlanWishes by_device;
  by_device.stages = {{std::nullopt, 0.0, std::nullopt}};
  EXPECT_FALSE(plan_alone(model, {}, rows, by_device).ways.front().policy.stages.front().uses_host_attention());
}

TEST(Planner, CompressionMustBeAllowedAndWorthIt) {
  const ModelSpec model = model_of("opt-1.3b");
  MadeUpMachine box;
  box.budgets = {3ULL << 30, 40ULL << 30, 0};
  const AlikeRows rows(400, 256, 32);
  EXPECT_TRUE(plan_alone(model, box, rows).ways.front().policy.block.weight_format.is_none());
  PlanWishes allowed;
  allowed.weight_formats = allowed.cache_formats = {QuantFormat{}, QuantFormat{4}};
  const PlannedJob best = plan_alone(model, box, rows, allowed).ways.front();
  EXPECT_FALSE(best.policy.block.cache_format.is_none()) << "many more rows fit the GPU";
  // Prompts alone are bound by arithmetic, of which compression saves none.
  const PlannedJob small = plan_alone(model_of("opt-125m"), box, AlikeRows(64, 512, 1), allowed).ways.front();
  EXPECT_TRUE(small.policy.block.weight_format.is_none());
}

TEST(Planner, IsTheSameEveryTime) {
  const ModelSpec model = model_of("opt-6.7b");
  const AlikeRows rows(150, 256, 32);
  const JobPlan one = plan_alone(model, {}, rows), two = plan_alone(model, {}, rows);
  ASSERT_EQ(one.ways.size(), two.ways.size());
  for (std::size_t i = 0; i < one.ways.size(); ++i) {
    EXPECT_EQ(to_flags(one.ways[i].policy.of_rank(0)), to_flags(two.ways[i].policy.of_rank(0)));
    EXPECT_EQ(one.ways[i].prediction.seconds, two.ways[i].prediction.seconds);
  }
}

TEST(Planner, SaysNothingWhereNothingFits) {
  MadeUpMachine box;
  box.budgets = {1ULL << 30, 2ULL << 30, 0};
  EXPECT_TRUE(plan_alone(model_of("opt-30b"), box, AlikeRows(10, 128, 16)).ways.empty());
}

TEST(Planner, ADiskIsUsedWhereNothingElseIsLeft) {
  MadeUpMachine box;
  box.budgets = {4ULL << 30, 8ULL << 30, 100ULL << 30};
  const ModelSpec model = model_of("opt-6.7b");
  const AlikeRows rows(64, 128, 16);
  const JobPlan plan = plan_alone(model, box, rows);
  ASSERT_FALSE(plan.ways.empty());
  EXPECT_GT(plan.ways.front().policy.stages.front().placement.weights.ssd(), 0);
  expect_fits(ranks_of(model, rows.shape, {box}), plan.ways.front().policy);
}

TEST(Planner, UnlikeBoxesTakeEquallyLong) {
  const ModelSpec model = model_of("opt-6.7b");
  const AlikeRows rows(1000, 256, 32);
  MadeUpMachine fast;
  fast.budgets = {2ULL << 30, 30ULL << 30, 0};
  MadeUpMachine slow = slow_box();
  slow.budgets = {1ULL << 30, 15ULL << 30, 0};
  const std::vector<RankToPlan> ranks = ranks_of(model, rows.shape, {slow, fast, slow});
  const JobPlan plan = plan_job(ranks, {model, rows.shape, rows.job, half_precision(3), {}});
  ASSERT_FALSE(plan.ways.empty());
  const JobPolicy& best = plan.ways.front().policy;
  EXPECT_EQ(std::accumulate(best.slices.begin(), best.slices.end(), 0), model.num_layers);
  EXPECT_GT(best.slices[1], 2 * best.slices[0]);
  expect_fits(ranks, best);

  // The even split, planned as well as it can be, is far behind.
  PlanWishes even;
  even.slices = {11, 10, 11};
  const JobPlan by_hand = plan_job(ranks, {model, rows.shape, rows.job, half_precision(3), even});
  ASSERT_FALSE(by_hand.ways.empty());
  EXPECT_EQ(by_hand.ways.front().policy.slices, *even.slices);
  EXPECT_GT(by_hand.ways.front().prediction.seconds, 1.4 * plan.ways.front().prediction.seconds);
}

// No slices, no sizes of a coarse grid and no shares by tenths are much better than what is planned.
TEST(Planner, BruteForceFindsNothingMuchBetter) {
  struct Case {
    const char* model;
    MadeUpMachine machine;
    AlikeRows rows;
  };
  MadeUpMachine tight;
  tight.budgets = {2ULL << 30, 6ULL << 30, 40ULL << 30};
  MadeUpMachine host;
  host.on_gpu = false;
  host.budgets = {2ULL << 30, 6ULL << 30, 40ULL << 30};
  host.ceilings = {};
  host.ceilings.matrix_operations = 100e9;
  host.ceilings.host_read_bytes = 20e9;
  host.ceilings.host_copy_bytes = 12e9;
  host.ceilings.disk_read_bytes = 2e9;
  host.ceilings.disk_write_bytes = 1e9;
  const std::vector<Case> cases{{"opt-1.3b", tight, AlikeRows(96, 256, 32)},
                                {"opt-2.7b", tight, AlikeRows(64, 128, 64)},
                                {"opt-1.3b", host, AlikeRows(64, 128, 32)}};
  for (const Case& one : cases) {
    const ModelSpec model = model_of(one.model);
    const std::vector<RankToPlan> ranks = ranks_of(model, one.rows.shape, {one.machine});
    const JobPlan plan = plan_job(ranks, {model, one.rows.shape, one.rows.job, half_precision(), {}});
    ASSERT_FALSE(plan.ways.empty());
    double least = std::numeric_limits<double>::infinity();
    JobPolicy best = plan.ways.front().policy;
    for (const bool host_attends : {false, true}) {
      JobPolicy policy{half_precision(), {StagePolicy{}}, {model.num_layers}};
      policy.stages[0].separate_layers = !host_attends;
      policy.stages[0].host_attention_percent = host_attends ? 100 : 0;
      StageInput stage = stage_under(ranks[0], policy);
      for (const int b : {1, 4, 8, 16, 32, 64})
        for (const int k : {1, 2, 4, 8})
          for (const int wg : {0, 20, 40, 60, 80, 100})
            for (const int ws : {0, 20, 40, 60, 80, 100})
              for (const int cg : {0, 20, 40, 60, 80, 100})
                for (const int cs : {0, 50, 100})
                  for (const int hg : {0, 100}) {
                    if (wg + ws > 100 || cg + cs > 100 || (host_attends && (cs > 0 || cg == 100))) continue;
                    if (static_cast<std::int64_t>(k - 1) * b >= one.rows.shape.num_rows) continue;
                    Policy& trial = stage.plan.policy;
                    trial.micro_batch_size = b;
                    trial.num_micro_batches = k;
                    trial.placement = make_placement({double(wg), double(100 - wg - ws), double(cg),
                                                      double(100 - cg - cs), double(hg), double(100 - hg)});
                    if (!explain_misfit(plan_memory(stage.plan), stage.budgets).empty()) continue;
                    const double seconds = predict_run({&stage, 1}, one.rows.job).seconds;
                    if (seconds >= least) continue;
                    least = seconds;
                    best = {trial, {trial}, {model.num_layers}};
                  }
    }
    EXPECT_LT(plan.ways.front().prediction.seconds, 1.03 * least)
        << one.model << ": " << to_flags(best.of_rank(0)) << " against "
        << to_flags(plan.ways.front().policy.of_rank(0));
  }
}

TEST(Planner, MoreOfSomethingBringsMore) {
  const ModelSpec model = model_of("opt-6.7b");
  const AlikeRows rows(1000, 256, 32);
  MadeUpMachine box;
  box.budgets = {4ULL << 30, 30ULL << 30, 0};
  const std::vector<RankToPlan> ranks = ranks_of(model, rows.shape, {box});
  const PlanQuestion question{model, rows.shape, rows.job, half_precision(), {}};
  const JobPlan plan = plan_job(ranks, question);
  ASSERT_FALSE(plan.ways.empty());
  const double now = plan.ways.front().prediction.tokens_per_second;
  const std::vector<WhatIf> more = what_more_brings(ranks, question, plan.ways.front());
  ASSERT_EQ(more.size(), 4U) << "memory of either kind, a GPU, a box";
  for (const WhatIf& one : more) EXPECT_GT(one.tokens_per_second, 0.95 * now) << one.change;
  EXPECT_GT(more[0].tokens_per_second, 1.01 * now) << "an eighth of the weights' stream less to load";
  EXPECT_GT(more[3].tokens_per_second, 1.8 * now);
  EXPECT_GE(more[3].tokens_per_second, more[2].tokens_per_second) << "a box has memory of its own";
}

// Whatever the machine and the job: a plan fits, or the least that could be asked for does not.
TEST(Planner, PlansFitOrNothingDoes) {
  std::mt19937_64 random(7);
  const auto pick = [&](std::initializer_list<double> values) { return values.begin()[random() % values.size()]; };
  const std::vector<std::string> models{"opt-125m", "opt-1.3b", "opt-6.7b", "demo-model"};
  int num_planned = 0;
  for (int i = 0; i < 30; ++i) {
    const ModelSpec model = model_of(models[random() % models.size()]);
    MadeUpMachine box;
    box.on_gpu = random() % 2 == 0;
    const double gib = 1024.0 * 1024 * 1024;
    box.budgets = {static_cast<std::uint64_t>(gib * pick({0.05, 0.3, 1, 4, 12})),
                   static_cast<std::uint64_t>(gib * pick({0.1, 0.5, 2, 8, 30})),
                   static_cast<std::uint64_t>(gib * pick({0, 1, 20}))};
    const int prompt = static_cast<int>(pick({8, 64, 200})), generated = static_cast<int>(pick({1, 8, 50}));
    const AlikeRows rows(static_cast<std::int64_t>(pick({1, 7, 60, 500})), prompt, generated);
    const std::vector<RankToPlan> ranks = ranks_of(model, rows.shape, {box});
    const JobPlan plan = plan_job(ranks, {model, rows.shape, rows.job, half_precision(), {}});
    for (const PlannedJob& way : plan.ways) expect_fits(ranks, way.policy);
    num_planned += plan.ways.empty() ? 0 : 1;
    if (!plan.ways.empty()) continue;
    const JobPolicy least{half_precision(), {StagePolicy{}}, {model.num_layers}};
    const StageInput stage = stage_under(ranks[0], least);
    EXPECT_FALSE(nearest_fit(stage.plan, stage.budgets)) << i;
  }
  EXPECT_GT(num_planned, 10);
}

}  // namespace
}  // namespace flexgen::test
