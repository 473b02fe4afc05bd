#include "policy/roofline.hpp"

#include <gtest/gtest.h>

#include "base/bytes.hpp"
#include "tests/policy/plan_cases.hpp"

namespace flexgen::test {
namespace {

using test::plan_for;

StageInput stage_of(const std::string& model, std::int32_t b, std::int32_t k, const std::array<double, 6>& percent,
                    const Ceilings& ceilings = big_gpu()) {
  StageInput stage;
  stage.plan = plan_for(model, b, k, percent);
  stage.plan.on_gpu = true;
  stage.plan.policy.rule = BlockRule::fixed;
  stage.ceilings = ceilings;
  stage.budgets = {15ULL << 30, 120ULL << 30, 60ULL << 30};
  return stage;
}

// Prompt 512, output 32: the workload of every reference figure.
RooflineJob job_of(std::int64_t rows) { return {rows, 512, 32}; }

double bound_of(const StageInput& stage, std::int64_t rows) {
  return bound_run({&stage, 1}, job_of(rows)).tokens_per_second;
}

double seconds(const PhaseBound& phase, Ceiling ceiling) {
  return phase.needs[static_cast<std::size_t>(ceiling)].seconds;
}
double amount(const PhaseBound& phase, Ceiling ceiling) {
  return phase.needs[static_cast<std::size_t>(ceiling)].amount;
}

void expect_within(double value, double expected, double tolerance) {
  EXPECT_NEAR(value / expected, 1, tolerance) << value;
}

TEST(Roofline, Opt30bWithCacheOverPcie) {
  const StageInput stage = stage_of("opt-30b", 32, 2, {20, 80, 0, 100, 0, 100});
  const RunBound bound = bound_run({&stage, 1}, job_of(64));
  expect_within(bound.tokens_per_second, 35.5, 0.04);
  EXPECT_EQ(bound.binding, Ceiling::host_to_gpu);
  EXPECT_EQ(bound.phase, SweepPhase::decode);
  expect_within(bound_of(stage_of("opt-30b", 32, 3, {20, 80, 0, 100, 0, 100}), 96), 43.6, 0.02);
}

TEST(Roofline, Opt30bDecodeStepByHand) {
  const StageInput stage = stage_of("opt-30b", 32, 3, {20, 80, 0, 100, 0, 100});
  const PhaseBound decode = bound_stage(stage, job_of(96)).decode;
  const double steps = 31;
  const double weights = 0.8 * 2 * static_cast<double>(num_parameters(stage.plan.model));  // 48 GB
  const double cache = 96 * (512 + 15) * 2.0 * 7168 * 2 * 48;                              // 70 GB
  expect_within(amount(decode, Ceiling::host_to_gpu) / steps, weights + cache, 0.02);
  expect_within(decode.seconds / steps, 2.2, 0.05);
  EXPECT_GT(amount(decode, Ceiling::host_memory), amount(decode, Ceiling::host_to_gpu));
  EXPECT_EQ(amount(decode, Ceiling::disk), 0);
  EXPECT_EQ(amount(decode, Ceiling::network), 0);
}

TEST(Roofline, Opt67bAllOnTheGpu) {
  const StageInput stage = stage_of("opt-6.7b", 8, 1, {100, 0, 100, 0, 100, 0});
  const RunBound bound = bound_run({&stage, 1}, job_of(8));
  expect_within(bound.tokens_per_second, 1300, 0.08);
  expect_within(bound.stages[0].prefill.seconds, 0.08, 0.12);
  expect_within(bound.stages[0].decode.seconds / 31, 3.6e-3, 0.05);
  EXPECT_EQ(bound.stages[0].prefill.binding(), Ceiling::matrix);
  EXPECT_EQ(bound.stages[0].decode.binding(), Ceiling::gpu_memory);
  EXPECT_EQ(amount(bound.stages[0].decode, Ceiling::host_to_gpu), 0);
}

TEST(Roofline, PrefillIsTwoOperationsPerParameterAndToken) {
  const StageInput stage = stage_of("opt-30b", 32, 3, {20, 80, 0, 100, 0, 100});
  const PhaseBound prefill = bound_stage(stage, job_of(96)).prefill;
  const auto& model = stage.plan.model;
  const double layers = 12.0 * 7168 * 7168 * 48;  // matrices of the decoder layers
  const double attention = 4.0 * 7168 * 48 * 96 * (512.0 * 513 / 2);
  const double head = 2.0 * model.vocab * 7168 * 96;
  expect_within(amount(prefill, Ceiling::matrix), 2 * layers * 96 * 512 + attention + head, 1e-6);
  expect_within(seconds(prefill, Ceiling::matrix), 4.0, 0.05);
  expect_within(prefill.seconds, seconds(prefill, Ceiling::matrix), 1e-9);
}

TEST(Roofline, WeightsOnDiskAreReadOncePerSweep) {
  const StageInput stage = stage_of("opt-6.7b", 8, 4, {0, 0, 100, 0, 100, 0});
  const StageBound bound = bound_stage(stage, job_of(32));
  const auto table = 2.0 * stage.plan.model.vocab * stage.plan.model.hidden;  // tied: loaded for both ends
  const double weights = 2 * static_cast<double>(num_parameters(stage.plan.model)) + table;
  expect_within(amount(bound.decode, Ceiling::disk), 31 * weights, 0.001);
  expect_within(amount(bound.decode, Ceiling::host_memory), 2 * 31 * weights, 0.001);  // into staging and out
  EXPECT_EQ(bound.decode.binding(), Ceiling::disk);
  expect_within(bound.decode.seconds, 31 * weights / 2.3e9, 0.001);
}

TEST(Roofline, RowsOfTheEmbeddingCrossTheLinkTheTableOfTheHeadDoes) {
  StageInput stage = stage_of("opt-6.7b", 8, 4, {0, 100, 100, 0, 100, 0});
  const auto& model = stage.plan.model;
  const double all = 2 * static_cast<double>(num_parameters(model));  // the tied table counted once
  const double positions = 2.0 * (model.max_positions + 2) * model.hidden;
  const double looked_up = 2.0 * model.hidden * 2 * 32;  // of tokens and positions, for 32 rows
  const PhaseBound decode = bound_stage(stage, job_of(32)).decode;
  expect_within(amount(decode, Ceiling::host_to_gpu) / 31, all - positions + looked_up, 1e-4);
  stage.plan.reads_dram = false;  // the dram tier is not pinned
  const PhaseBound loaded = bound_stage(stage, job_of(32)).decode;
  expect_within(amount(loaded, Ceiling::host_to_gpu) / 31, all + 2.0 * model.vocab * model.hidden, 1e-4);
}

TEST(Roofline, LastRowsShareNoBlock) {
  const StageInput stage = stage_of("opt-6.7b", 8, 1, {0, 100, 100, 0, 100, 0});
  const double one = bound_stage(stage, job_of(8)).seconds();
  const double two = bound_stage(stage, job_of(16)).seconds();
  const double one_and_a_row = bound_stage(stage, job_of(9)).seconds();
  expect_within(two, 2 * one, 1e-9);
  EXPECT_GT(one_and_a_row, 1.9 * one) << "the weights are streamed for one row as for eight";
  EXPECT_LE(one_and_a_row, two);
}

TEST(Roofline, WithoutOverlapResourcesTakeTurns) {
  StageInput stage = stage_of("opt-30b", 32, 2, {20, 80, 0, 100, 0, 100});
  const PhaseBound side_by_side = bound_stage(stage, job_of(64)).decode;
  stage.plan.policy.overlap = false;
  const PhaseBound in_turn = bound_stage(stage, job_of(64)).decode;
  expect_within(in_turn.seconds,
                seconds(in_turn, Ceiling::gpu_memory) + seconds(in_turn, Ceiling::host_to_gpu) +
                    seconds(in_turn, Ceiling::gpu_to_host),
                1e-9);
  EXPECT_GT(in_turn.seconds, side_by_side.seconds);
}

TEST(Roofline, ALinkThatHalvesWhenBothWaysAreUsed) {
  Ceilings half = big_gpu();
  half.both_directions_bytes = 55e9;
  const StageInput stage =
      stage_of("opt-30b", 32, 3, {100, 0, 100, 0, 0, 100}, half);  // hidden states go out and come back
  const PhaseBound prefill = bound_stage(stage, job_of(96)).prefill;
  expect_within(seconds(prefill, Ceiling::both_directions),
                (amount(prefill, Ceiling::host_to_gpu) + amount(prefill, Ceiling::gpu_to_host)) / 55e9, 1e-9);
  EXPECT_GT(seconds(prefill, Ceiling::both_directions), seconds(prefill, Ceiling::host_to_gpu));
}

TEST(Roofline, FasterHardwareNeverLowersTheBound) {
  constexpr double Ceilings::*fields[] = {&Ceilings::matrix_operations,     &Ceilings::gpu_memory_bytes,
                                          &Ceilings::host_to_gpu_bytes,     &Ceilings::gpu_to_host_bytes,
                                          &Ceilings::both_directions_bytes, &Ceilings::host_read_bytes,
                                          &Ceilings::host_copy_bytes,       &Ceilings::disk_read_bytes,
                                          &Ceilings::disk_write_bytes,      &Ceilings::network_bytes};
  const std::array<double, 6> placements[] = {
      {100, 0, 100, 0, 100, 0}, {20, 80, 0, 100, 0, 100}, {0, 50, 0, 0, 0, 100}, {10, 20, 30, 40, 50, 25}};
  for (const bool on_gpu : {true, false})
    for (const bool overlap : {true, false})
      for (const auto& percent : placements) {
        StageInput stage = stage_of("opt-1.3b", 4, 2, percent);
        stage.plan.on_gpu = on_gpu;
        stage.plan.policy.overlap = overlap;
        stage.plan.links.sends = true;
        const double before = bound_of(stage, 20);
        EXPECT_GT(before, 0);
        for (const auto field : fields) {
          StageInput faster = stage;
          faster.ceilings.*field *= 1.5;
          EXPECT_GE(bound_of(faster, 20), before);
          faster.ceilings.*field = 0;  // unknown: bounds nothing
          EXPECT_GE(bound_of(faster, 20), before);
        }
      }
}

TEST(Roofline, LargerBlocksNeverLowerTheBound) {
  double before = 0;
  for (const std::int32_t k : {1, 2, 4, 8}) {
    const double now = bound_of(stage_of("opt-30b", 16, k, {20, 80, 0, 100, 0, 100}), 16 * 8);
    EXPECT_GT(now, before);
    before = now;
  }
}

TEST(Roofline, OnACpuHostMemoryCarriesAll) {
  StageInput stage = stage_of("opt-1.3b", 8, 1, {100, 0, 100, 0, 100, 0});
  stage.plan.on_gpu = false;
  const PhaseBound resident = bound_stage(stage, job_of(8)).decode;
  EXPECT_EQ(amount(resident, Ceiling::gpu_memory), 0);
  const double weights = 2.0 * static_cast<double>(num_parameters(stage.plan.model));
  const double cache = 8 * (512 + 16) * 2.0 * 2048 * 2 * 24;
  expect_within(amount(resident, Ceiling::host_memory) / 31, weights + cache, 0.01);
  expect_within(seconds(resident, Ceiling::host_memory), amount(resident, Ceiling::host_memory) / 99e9, 1e-9);

  StageInput streamed = stage_of("opt-1.3b", 8, 1, {0, 100, 100, 0, 100, 0});
  streamed.plan.on_gpu = false;
  const PhaseBound copied = bound_stage(streamed, job_of(8)).decode;
  // Read and written by the copy, then read.
  EXPECT_GT(amount(copied, Ceiling::host_memory) / 31, 3 * weights);
  EXPECT_EQ(amount(copied, Ceiling::host_to_gpu), 0);
}

std::vector<StageInput> pipeline(const std::string& model, std::int32_t num_stages,
                                 const std::array<double, 6>& percent) {
  std::vector<StageInput> stages;
  for (std::int32_t s = 0; s < num_stages; ++s) {
    StageInput stage = stage_of(model, 16, 2, percent);
    const std::vector<SliceBounds> slices = balanced_slices(stage.plan.model, num_stages);
    stage.plan.slice.layers = describe(make_layers(stage.plan.model, slices[static_cast<std::size_t>(s)], true));
    stage.plan.policy.num_groups = num_stages;
    stage.plan.links.receives = s > 0;
    stage.plan.links.sends = s + 1 < num_stages;
    stages.push_back(std::move(stage));
  }
  return stages;
}

TEST(Roofline, AFullPipelineScalesWithItsStages) {
  const std::array<double, 6> percent{20, 80, 0, 100, 0, 100};
  const double one = bound_run(pipeline("opt-30b", 1, percent), job_of(256)).tokens_per_second;
  const RunBound two = bound_run(pipeline("opt-30b", 2, percent), job_of(256));
  EXPECT_FALSE(two.unfilled);
  EXPECT_GT(two.tokens_per_second / one, 1.9);
  EXPECT_LT(two.tokens_per_second / one, 2.05);
  EXPECT_GT(amount(two.stages[0].prefill, Ceiling::network), 0);
  // Too few rows: stages wait for each other.
  const RunBound starved = bound_run(pipeline("opt-30b", 4, percent), job_of(1));
  EXPECT_TRUE(starved.unfilled);
  EXPECT_GT(starved.seconds, starved.stages[starved.slowest].seconds());
  const auto stages = pipeline("opt-30b", 4, percent);
  EXPECT_NE(advise(stages, job_of(1), starved).find("more rows"), std::string::npos);
}

TEST(Roofline, HiddenStatesThroughTheHostCrossItsLinks) {
  auto stages = pipeline("opt-6.7b", 2, {100, 0, 100, 0, 100, 0});
  EXPECT_EQ(amount(bound_stage(stages[1], job_of(32)).prefill, Ceiling::host_to_gpu), 0);
  for (StageInput& stage : stages) stage.plan.links.through_host = true;
  const double bytes = 32 * 512.0 * 4096 * 2;
  expect_within(amount(bound_stage(stages[0], job_of(32)).prefill, Ceiling::gpu_to_host), bytes, 1e-9);
  expect_within(amount(bound_stage(stages[1], job_of(32)).prefill, Ceiling::host_to_gpu), bytes, 1e-9);
}

// What is proposed moves the cache: all ranks cut it anew.
TEST(Roofline, AdviceIsThereWhereRanksHaveCutTheirCaches) {
  StageInput stage = stage_of("opt-6.7b", 16, 3, {0, 100, 30, 70, 0, 100});
  stage.plan.policy.host_attention_percent = 50;
  stage.plan.policy.cache_cut = stage.plan.policy.own_cut();
  ASSERT_TRUE(stage.plan.policy.cache_cut.is_cut());
  EXPECT_FALSE(advise({&stage, 1}, job_of(48), bound_run({&stage, 1}, job_of(48))).empty());
}

TEST(Roofline, AdviceFitsAndHelps) {
  StageInput small = stage_of("opt-30b", 8, 1, {20, 80, 0, 100, 0, 100});
  const RunBound bound = bound_run({&small, 1}, job_of(8));
  EXPECT_NE(advise({&small, 1}, job_of(8), bound).find("block twice as large"), std::string::npos);
  // What changes results comes second.
  EXPECT_NE(advise({&small, 1}, job_of(8), bound).find("in accuracy, weights of 4 bits"), std::string::npos);
  small.plan.policy.weight_format = {4, 64};
  small.plan.policy.micro_batch_size = 64;
  const RunBound cache_binds = bound_run({&small, 1}, job_of(64));
  EXPECT_NE(advise({&small, 1}, job_of(64), cache_binds).find("--cpu-cache-compute"), std::string::npos);
  StageInput serial = stage_of("opt-30b", 32, 2, {20, 80, 0, 100, 0, 100});
  serial.plan.policy.overlap = false;
  serial.budgets = {plan_memory(serial.plan).gpu.total(), plan_memory(serial.plan).dram.total(),
                    0};  // no room for more
  const RunBound in_turn = bound_run({&serial, 1}, job_of(64));
  EXPECT_NE(advise({&serial, 1}, job_of(64), in_turn).find("--overlap"), std::string::npos);
  serial.plan.policy.overlap = true;
  const RunBound full = bound_run({&serial, 1}, job_of(64));
  EXPECT_NE(advise({&serial, 1}, job_of(64), full).find("--gpu-mem"), std::string::npos);
}

// Rolling rows: the links bring weights and cache while prompts are computed, so the longer of the two sums is left.
TEST(Roofline, WhereSweepsMixTheLargestSumOverTheJobBinds) {
  StageInput stage = stage_of("opt-30b", 48, 8, {20, 80, 0, 100, 0, 100});
  const StageBound phases = bound_stage(stage, job_of(4 * 384));
  stage.plan.policy.rule = BlockRule::rolling;
  const RunBound run = bound_run({&stage, 1}, job_of(4 * 384));
  const StageBound& mixed = run.stages[0];
  EXPECT_EQ(run.phase, SweepPhase::mixed);
  EXPECT_EQ(mixed.prefill.seconds + mixed.decode.seconds, 0);
  EXPECT_GT(phases.prefill.seconds, 1);
  EXPECT_LT(mixed.mixed.seconds, phases.seconds());
  expect_within(mixed.mixed.seconds, seconds(mixed.mixed, mixed.mixed.binding()), 1e-9);
  // The same arithmetic and the same cache, whenever they are done.
  for (const Ceiling ceiling : {Ceiling::matrix, Ceiling::gpu_to_host})
    expect_within(amount(mixed.mixed, ceiling), amount(phases.prefill, ceiling) + amount(phases.decode, ceiling), 0.05);
  stage.plan.policy.overlap = false;
  EXPECT_GT(bound_stage(stage, job_of(4 * 384)).seconds(), mixed.seconds()) << "one after the other";
  // One block that begins all at once has phases.
  EXPECT_EQ(bound_stage(stage, job_of(8)).mixed.seconds, 0);
}

// A score needs the logits of every position, and no decoding.
TEST(Roofline, ScoringComputesTheHeadForEveryPosition) {
  const StageInput stage = stage_of("opt-6.7b", 8, 1, {100, 0, 100, 0, 100, 0});
  const RunBound scored = bound_run({&stage, 1}, {8, 512, 0, 511});
  const RunBound prefilled = bound_run({&stage, 1}, {8, 512, 1});
  const ModelSpec& model = stage.plan.model;
  const double head = 2.0 * static_cast<double>(model.vocab) * model.hidden * 8 * 511;
  EXPECT_NEAR(amount(scored.stages[0].prefill, Ceiling::matrix) - amount(prefilled.stages[0].prefill, Ceiling::matrix),
              head, 1e-6 * head);
  EXPECT_EQ(scored.stages[0].decode.seconds, 0);
  EXPECT_EQ(scored.phase, SweepPhase::prefill);
  EXPECT_NEAR(scored.tokens_per_second, 8 * 511 / scored.seconds, 1e-6 * scored.tokens_per_second);
}

TEST(Ceilings, ComeFromTheProfileSharedByTheRanksOfAMachine) {
  HardwareProfile profile;
  profile.memory.read = {{1, 10e9}, {4, 40e9}};
  profile.memory.copy = {{4, 36e9}};
  profile.memory.matrix = {{DType::float32, 512, 4096, 1e12}, {DType::float32, 8, 4096, 9e11}};
  GpuProfile gpu;
  gpu.host_to_gpu = {{64 * KiB, 16e9}, {16 * MiB, 54e9}};
  gpu.matrix = {{DType::float16, 4096, 8192, 700e12}};
  gpu.beside_host_reads = {{4, 60e9, 50e9}};
  profile.gpu = gpu;
  profile.disk.emplace().read = {{MiB, 32, 2e9}};
  profile.links = {{"mpi", 0, 1, true, 1e-5, {{MiB, 9e9}}},
                   {"mpi", 1, 2, false, 1e-5, {{MiB, 3e9}}},
                   {"nccl", 0, 1, true, 1e-5, {{MiB, 300e9}}}};
  const Ceilings one = ceilings_of(profile, true, DType::bfloat16, MachineShare::even(1), "mpi");
  EXPECT_EQ(one.host_to_gpu_bytes, 54e9);
  EXPECT_EQ(one.matrix_operations, 700e12);
  EXPECT_EQ(one.host_copy_bytes, 110e9) << "DMA and processors together";
  EXPECT_EQ(one.network_bytes, 3e9) << "the link between machines";
  const Ceilings two = ceilings_of(profile, true, DType::float16, MachineShare::even(2), "nccl");
  EXPECT_EQ(two.host_to_gpu_bytes, 54e9) << "each rank has a link of its own";
  EXPECT_EQ(two.disk_read_bytes, 1e9);
  profile.disk->sustained_read = DiskRate{MiB, 32, 1.6e9};
  EXPECT_EQ(ceilings_of(profile, true, DType::float16, MachineShare::even(2), "nccl").disk_read_bytes, 0.8e9)
      << "what lasts, not what a burst gives";
  EXPECT_EQ(two.host_read_bytes, 20e9);
  EXPECT_EQ(two.network_bytes, 300e9);
  const Ceilings cpu = ceilings_of(profile, false, DType::float32, MachineShare::even(2), "");
  EXPECT_EQ(cpu.matrix_operations, 0.5e12);
  EXPECT_EQ(cpu.host_to_gpu_bytes, 0);
  EXPECT_EQ(cpu.network_bytes, 0);
}

}  // namespace
}  // namespace flexgen::test
