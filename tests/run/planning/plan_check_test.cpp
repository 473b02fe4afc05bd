// Sweeps of a machine that is made up, beside a profile of it that is wrong in one ceiling.
#include "run/planning/plan_check.hpp"

#include <gtest/gtest.h>

#include <ostream>
#include <vector>

#include "run/planning/replan.hpp"
#include "tests/policy/planner/plan_ranks.hpp"

namespace flexgen::test {
namespace {

struct Case {
  const char* name;
  bool on_gpu;
  std::array<double, 6> percent;
  Ceiling ceiling;
  double host_percent = 0;
};
void PrintTo(const Case& one, std::ostream* out) { *out << one.name; }

// A quarter of the weights on the gpu tier streams; prompts of 512 tokens keep a GPU's arithmetic busy.
StageInput stage_of(const Case& one) {
  static const ModelSpec model = model_of("opt-6.7b");
  static const AlikeRows rows(512, 512, 32);
  MadeUpMachine machine;
  machine.on_gpu = one.on_gpu;
  machine.budgets = {64ULL << 30, 120ULL << 30, 200ULL << 30};
  machine.ceilings.both_directions_bytes = 220e9;
  if (!one.on_gpu) machine.ceilings.matrix_operations = one.ceiling == Ceiling::matrix ? 2e12 : 5e13;
  Policy policy = half_precision();
  policy.micro_batch_size = 32;
  policy.num_micro_batches = 2;
  policy.placement = make_placement(one.percent);
  policy.host_attention_percent = one.host_percent;
  StageInput stage = rank_of(model, rows.shape, machine).stage(policy, {0, model.num_layers, true, true});
  stage.plan.policy.token_budget = 1024;
  return stage;
}

void use(TotalsByResource& used, Resource resource, double seconds, double bytes = 0) {
  used[static_cast<std::size_t>(resource)].occupied_ns += static_cast<std::uint64_t>(seconds * 1e9);
  used[static_cast<std::size_t>(resource)].bytes += static_cast<std::uint64_t>(bytes);
}

// As long as the machine takes, whose ceilings `stage` has. While a GPU waits for the host it is not busy.
void see(const StageInput& stage, std::array<SweepRows, 2> kinds, SeenSweeps& sweeps) {
  const Needs needs = SweepCost(stage).needs(kinds);
  StageInput not_waiting = stage;
  if (stage.plan.on_gpu) not_waiting.ceilings.host_read_bytes = 0;
  const Needs of_kernels = SweepCost(not_waiting).needs(kinds);
  const auto need = [&](Ceiling ceiling) { return needs[static_cast<std::size_t>(ceiling)]; };
  const SeenSweep& sweep = sweeps.each.emplace_back(SeenSweep{kinds, sweep_seconds(needs, stage)});
  TotalsByResource& used = sweeps.used[static_cast<std::size_t>(sweep.phase())];
  const bool on_gpu = stage.plan.on_gpu;
  use(used, Resource::compute,
      of_kernels[static_cast<std::size_t>(Ceiling::matrix)].seconds +
          need(on_gpu ? Ceiling::gpu_memory : Ceiling::host_memory).seconds);
  if (on_gpu) {
    use(used, Resource::host_to_gpu, need(Ceiling::host_to_gpu).seconds, need(Ceiling::host_to_gpu).amount);
    use(used, Resource::gpu_to_host, need(Ceiling::gpu_to_host).seconds, need(Ceiling::gpu_to_host).amount);
    if (stage.plan.policy.uses_host_attention()) {
      const double read = 0.9 * need(Ceiling::host_memory).amount;
      use(used, Resource::host_attention, read / stage.ceilings.host_read_bytes, read);
    }
  }
  use(used, Resource::disk_read, need(Ceiling::disk).seconds, need(Ceiling::disk).amount);
}

// Prompts alone, both, and single tokens alone: as a job begins.
SeenSweeps first_sweeps(const StageInput& stage) {
  SeenSweeps sweeps;
  for (const double decoding : {0.0, 16.0, 40.0, 64.0, 64.0})
    see(stage, {{{(64 - decoding) / 16, 0, decoding < 64 ? 512.0 : 0, 2}, {decoding, 520, 1, 2}}}, sweeps);
  return sweeps;
}

class WrongProfile : public ::testing::TestWithParam<Case> {};

TEST_P(WrongProfile, IsToldByTheCeilingThatIsWrong) {
  const Case& one = GetParam();
  const StageInput machine = stage_of(one);
  const SeenSweeps sweeps = first_sweeps(machine);
  ASSERT_FALSE(check_plan(machine, sweeps).differs());
  for (const double factor : {2.0, 0.5}) {
    SCOPED_TRACE(factor);
    StageInput profile = machine;
    scale_ceiling(profile, one.ceiling, factor);
    const PlanFinding finding = check_plan(profile, sweeps);
    ASSERT_TRUE(finding.wrong) << finding.measured_seconds << " s, " << finding.predicted_seconds;
    EXPECT_EQ(ceiling_name(finding.wrong->ceiling), ceiling_name(one.ceiling));
    EXPECT_NEAR(finding.wrong->factor(), 1 / factor, 0.05 / factor);
    EXPECT_EQ(finding.num_sweeps, sweeps.each.size());
    scale_ceiling(profile, finding.wrong->ceiling, finding.wrong->factor());
    EXPECT_FALSE(check_plan(profile, sweeps).differs());
  }
}

TEST_P(WrongProfile, IsNotSpokenOfWithinTheTolerance) {
  const Case& one = GetParam();
  const StageInput machine = stage_of(one);
  const SeenSweeps sweeps = first_sweeps(machine);
  for (const double factor : {1.12, 0.9}) {
    StageInput profile = machine;
    scale_ceiling(profile, one.ceiling, factor);
    EXPECT_FALSE(check_plan(profile, sweeps).differs());
    EXPECT_FALSE(check_plan(profile, sweeps).wrong);
  }
}

// It waits for the others: what it does itself counts.
TEST_P(WrongProfile, IsToldByOneStageAmongSeveral) {
  const Case& one = GetParam();
  const StageInput machine = stage_of(one);
  SeenSweeps sweeps = first_sweeps(machine);
  for (SeenSweep& sweep : sweeps.each) sweep.seconds = 0;
  EXPECT_FALSE(check_plan(machine, sweeps).differs());
  StageInput profile = machine;
  scale_ceiling(profile, one.ceiling, 0.4);
  const PlanFinding finding = check_plan(profile, sweeps);
  ASSERT_TRUE(finding.wrong) << finding.measured_seconds << " s, " << finding.predicted_seconds;
  EXPECT_EQ(ceiling_name(finding.wrong->ceiling), ceiling_name(one.ceiling));
  EXPECT_NEAR(finding.wrong->factor(), 2.5, 0.125);
}

INSTANTIATE_TEST_SUITE_P(
    Ceilings, WrongProfile,
    ::testing::Values(Case{"MatrixOfAHost", false, {100, 0, 100, 0, 100, 0}, Ceiling::matrix},
                      Case{"MatrixOfAGpu", true, {100, 0, 100, 0, 100, 0}, Ceiling::matrix},
                      Case{"MemoryOfAGpu", true, {100, 0, 100, 0, 100, 0}, Ceiling::gpu_memory},
                      Case{"MemoryOfAHost", false, {100, 0, 100, 0, 100, 0}, Ceiling::host_memory},
                      Case{"Link", true, {25, 75, 100, 0, 100, 0}, Ceiling::host_to_gpu},
                      Case{"Disk", true, {25, 25, 100, 0, 100, 0}, Ceiling::disk},
                      Case{"AttentionOfAHost", true, {100, 0, 0, 100, 100, 0}, Ceiling::host_memory, 100}),
    [](const auto& info) { return info.param.name; });

// All resources as fast as the profile says, but nothing goes on between them.
TEST(PlanCheck, TimeThatNoResourceTookIsNoCeilingsFault) {
  const StageInput stage = stage_of({"", true, {25, 75, 100, 0, 100, 0}, Ceiling::matrix});
  SeenSweeps sweeps = first_sweeps(stage);
  for (SeenSweep& sweep : sweeps.each) sweep.seconds *= 2;
  const PlanFinding finding = check_plan(stage, sweeps);
  EXPECT_TRUE(finding.differs());
  EXPECT_FALSE(finding.wrong);
}

TEST(PlanCheck, RowsAreTakenByTheirMeans) {
  SweepWork work;
  work.micro_batches.resize(2);
  const auto row = [](std::int32_t start, std::size_t count, bool reads, bool wants) {
    RowWork row;
    row.start = start;
    row.tokens.resize(count);
    row.reads_prompt = reads;
    row.wants_token = wants;
    return row;
  };
  work.micro_batches[0].rows = {row(0, 30, true, true), row(100, 10, true, false), row(40, 1, false, true)};
  work.micro_batches[1].rows = {row(60, 1, false, true)};
  const auto [prompts, decoding] = rows_of(work);
  EXPECT_EQ(prompts.rows, 2);
  EXPECT_EQ(prompts.tokens(), 40);
  EXPECT_EQ(prompts.start, 25);  // of a token
  EXPECT_EQ(prompts.rows * prompts.outputs, 1);
  EXPECT_EQ(decoding.rows, 2);
  EXPECT_EQ(decoding.start, 50);
  EXPECT_EQ(decoding.count, 1);
  EXPECT_EQ(decoding.micro_batches, 2);
}

// Where attention on the host takes most of a sweep, and arithmetic is slower than was thought, prompts are better
// spread.
TEST(Replan, TokensFollowWhatIsSlowAndNeverPassThePlan) {
  const Case one{"", true, {100, 0, 0, 100, 100, 0}, Ceiling::matrix, 100};
  StageInput stage = stage_of(one);
  const RooflineJob job{512, 512, 32};
  const std::int32_t planned = 16 * 1024;
  stage.ceilings.matrix_operations /= 20;
  const std::int32_t chosen = choose_tokens({stage}, job, planned);
  EXPECT_LT(chosen, planned / 2);
  EXPECT_GT(chosen, stage.plan.policy.micro_batch_size);
  const auto seconds_with = [&](std::int32_t tokens) {
    stage.plan.policy.token_budget = tokens;
    return predict_run({&stage, 1}, job).seconds;
  };
  EXPECT_LT(seconds_with(chosen), 0.97 * seconds_with(planned));
  EXPECT_LE(choose_tokens({stage}, job, 512), 512);
  stage.plan.policy.rule = BlockRule::fixed;
  EXPECT_EQ(choose_tokens({stage}, job, planned), planned);
}

}  // namespace
}  // namespace flexgen::test
