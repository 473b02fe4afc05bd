#include "policy/cost_model.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "tests/policy/planner/plan_ranks.hpp"

namespace flexgen::test {
namespace {

HardwareProfile cluster(const std::string& name) {
  const std::string path = std::string(FLEXGEN_SOURCE_DIR) + "/configs/clusters/" + name + ".json";
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return parse_hardware_profile(text.str(), path);
}

struct Case {
  const char* model;
  std::array<double, 6> percent;
  std::int32_t rows_of_call, micro_batches;
  std::int64_t rows;
  std::int32_t bits;
  double host_percent;
  double measured;  // tokens per second
  double within = 0.12;
};

StageInput stage_of(const Case& one, const HardwareProfile& profile) {
  const ModelSpec model = model_of(one.model);
  const AlikeRows alike(one.rows, 512, 32);
  Policy policy = half_precision();
  policy.micro_batch_size = one.rows_of_call;
  policy.num_micro_batches = one.micro_batches;
  policy.placement = make_placement(one.percent);
  policy.weight_format.bits = policy.cache_format.bits = one.bits;
  policy.host_attention_percent = one.host_percent;
  policy.separate_layers = one.host_percent == 0;
  MadeUpMachine machine;
  machine.ceilings = ceilings_of(profile, true, DType::float16, {}, "");
  StageInput stage = rank_of(model, alike.shape, machine).stage(policy, {0, model.num_layers, true, true});
  stage.plan.policy.token_budget = choose_token_budget(stage);
  return stage;
}

// Whole runs on one H200 with 15 GiB, prompts of 512 and 32 new tokens (benchmark/results).
TEST(CostModel, PredictsWhatWasMeasuredOnAnH200) {
  const HardwareProfile profile = cluster("h200");
  for (const Case& one : {Case{"opt-6.7b", {100, 0, 100, 0, 100, 0}, 8, 1, 8, 0, 0, 1100},
                          Case{"opt-6.7b", {100, 0, 100, 0, 100, 0}, 128, 1, 128, 4, 0, 2398},
                          Case{"opt-30b", {18, 82, 0, 100, 0, 100}, 32, 3, 96, 0, 100, 80},
                          // Sweeps that mix took 0.95 s there, where the link needs 0.85: the cause is not known.
                          Case{"opt-30b", {70, 30, 0, 100, 0, 100}, 48, 8, 1536, 4, 53, 358, 0.18},
                          Case{"opt-175b", {11, 89, 0, 100, 0, 100}, 20, 2, 40, 4, 100, 20.4}}) {
    const StageInput stage = stage_of(one, profile);
    const RooflineJob job{one.rows, 512, 32};
    const Prediction prediction = predict_run({&stage, 1}, job);
    EXPECT_NEAR(prediction.tokens_per_second / one.measured, 1, one.within)
        << one.model << " " << one.bits << " bits, " << one.rows << " rows: " << prediction.tokens_per_second;
    EXPECT_LT(prediction.tokens_per_second, bound_run({&stage, 1}, job).tokens_per_second);
  }
}

StageInput resident(std::int64_t rows, std::int32_t rows_of_call) {
  return stage_of({"opt-1.3b", {100, 0, 100, 0, 100, 0}, rows_of_call, 1, rows, 0, 0, 0}, cluster("h200"));
}

double seconds_of(const StageInput& stage, std::int64_t rows) {
  return predict_run({&stage, 1}, {rows, 512, 32}).seconds;
}

// A profile from public figures knows the rate of large products alone; a decode step reads weights even so.
TEST(CostModel, FewTokensTakeNoLongerThanTheirWeights) {
  StageInput stage = stage_of({"opt-6.7b", {100, 0, 100, 0, 100, 0}, 8, 1, 8, 0, 0, 0}, cluster("h200"));
  stage.ceilings.products = {{4096, stage.ceilings.matrix_operations}};
  const SweepRows decoding{8, 512, 1, 1};
  const Needs needs = SweepCost(stage).needs({&decoding, 1});
  const double weights = 2.0 * 6.66e9 / stage.ceilings.gpu_memory_bytes;
  EXPECT_NEAR(needs[static_cast<std::size_t>(Ceiling::matrix)].seconds, weights, 0.25 * weights);
}

// Rows that begin alike read less, and their cache is read once for all of them.
TEST(CostModel, SharingSavesTime) {
  StageInput stage = stage_of({"opt-6.7b", {100, 0, 50, 50, 100, 0}, 32, 2, 640, 0, 0, 0}, cluster("h200"));
  const RooflineJob job{640, 512, 32};
  const double alone = predict_run({&stage, 1}, job).seconds;
  const double steady = phase_seconds(SweepCost(stage), job);
  stage.plan.job.shared_prompt_tokens = 639 * 448;
  stage.plan.policy.num_prefixes = 1;
  EXPECT_LT(predict_run({&stage, 1}, job).seconds, 0.4 * alone);
  EXPECT_LT(phase_seconds(SweepCost(stage), job), 0.4 * steady);
}

TEST(CostModel, FasterMachinesAreNeverSlower) {
  const StageInput stage = stage_of({"opt-6.7b", {50, 30, 20, 40, 0, 100}, 8, 4, 200, 0, 0, 0}, cluster("h200"));
  const double now = seconds_of(stage, 200);
  for (double Ceilings::*rate :
       {&Ceilings::gpu_memory_bytes, &Ceilings::host_to_gpu_bytes, &Ceilings::gpu_to_host_bytes,
        &Ceilings::both_directions_bytes, &Ceilings::host_read_bytes, &Ceilings::host_copy_bytes,
        &Ceilings::disk_read_bytes, &Ceilings::disk_write_bytes}) {
    StageInput faster = stage;
    faster.ceilings.*rate *= 2;
    EXPECT_LE(seconds_of(faster, 200), now);
  }
  StageInput faster = stage;
  for (TokenRate& rate : faster.ceilings.products) rate.operations *= 2;
  EXPECT_LE(seconds_of(faster, 200), now);
}

TEST(CostModel, WithoutOverlapGroupsTakeTurns) {
  StageInput stage = stage_of({"opt-6.7b", {20, 80, 0, 100, 0, 100}, 8, 4, 32, 0, 0, 0}, cluster("h200"));
  const double side_by_side = seconds_of(stage, 32);
  stage.plan.policy.overlap = false;
  EXPECT_GT(seconds_of(stage, 32), 1.05 * side_by_side);
}

TEST(CostModel, ABlockOfManyWavesRunsAtASteadyRate) {
  const double few = seconds_of(resident(64 * 40, 64), 64 * 40) / 40;
  const double many = seconds_of(resident(64 * 4000, 64), 64 * 4000) / 4000;
  EXPECT_NEAR(many / few, 1, 0.05);
  const double one = seconds_of(resident(64, 64), 64);
  EXPECT_GT(one, many) << "it fills and drains alone";
}

TEST(CostModel, SmallCallsCostMore) {
  EXPECT_GT(seconds_of(resident(256, 4), 256), 1.5 * seconds_of(resident(256, 64), 256));
}

TEST(CostModel, StagesOfAPipelineTakeTurnsWithGroups) {
  const ModelSpec model = model_of("opt-6.7b");
  const AlikeRows rows(512, 512, 32);
  const auto run = [&](const std::vector<std::int32_t>& slices) {
    Policy policy = half_precision(slices.size());
    policy.micro_batch_size = 16;
    const std::vector<RankToPlan> ranks = ranks_of(model, rows.shape, std::vector<MadeUpMachine>(slices.size()));
    return predict_run(stages_of(ranks, {policy, std::vector<StagePolicy>(slices.size(), policy), slices}), rows.job);
  };
  const Prediction alone = run({32}), even = run({16, 16}), uneven = run({24, 8});
  EXPECT_NEAR(even.seconds / alone.seconds, 0.5, 0.06);
  EXPECT_NEAR(uneven.seconds / alone.seconds, 0.75, 0.08);
  EXPECT_EQ(uneven.slowest, 0U);
}

}  // namespace
}  // namespace flexgen::test
