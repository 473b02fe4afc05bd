#include "run/watch/first_sweeps.hpp"

#include <gtest/gtest.h>

#include <optional>

#include "batch/batch_driver.hpp"
#include "policy/block_limits.hpp"
#include "run/watch/counted_sweeps.hpp"
#include "tests/support/listed_rows.hpp"
#include "tests/support/tiny_stage.hpp"

namespace flexgen::test {
namespace {

SweepWork work_of(std::int32_t num_tokens, bool reads_prompt) {
  SweepWork work;
  RowWork row;
  row.tokens.resize(static_cast<std::size_t>(num_tokens));
  row.reads_prompt = reads_prompt;
  work.micro_batches.push_back({0, {row}});
  return work;
}

JobShape shape_of(std::int32_t prompt, std::int32_t generated, std::int64_t rows) {
  JobShape shape;
  shape.add_rows(prompt, generated, rows);
  return shape;
}

TEST(FirstSweeps, AreEnoughAtATenthOfTheJob) {
  const Tracer tracer;
  FirstSweeps sweeps(tracer, shape_of(90, 10, 8));  // 800 tokens
  for (int i = 0; i < 4; ++i) {
    EXPECT_FALSE(sweeps.are_enough());
    sweeps.begin(work_of(19, true));
  }
  EXPECT_FALSE(sweeps.are_enough());  // 76, and no five seconds
  sweeps.begin(work_of(4, true));
  EXPECT_TRUE(sweeps.are_enough());
  EXPECT_EQ(sweeps.take().size(), 5U);
}

TEST(FirstSweeps, AreNotTakenWhereTheyAreTooFewToTell) {
  const Tracer tracer;
  FirstSweeps sweeps(tracer, shape_of(9, 2, 1));
  for (int i = 0; i < 3; ++i) sweeps.begin(work_of(19, true));
  EXPECT_TRUE(sweeps.take().empty());
}

TEST(FirstSweeps, AreBoundedInALongJob) {
  const Tracer tracer;
  FirstSweeps sweeps(tracer, shape_of(1000, 1000, 1'000'000));
  for (int i = 0; i < 1000; ++i) {
    EXPECT_FALSE(sweeps.are_enough());
    sweeps.begin(work_of(1, false));
  }
  EXPECT_TRUE(sweeps.are_enough());
  sweeps.begin(work_of(1, false));
  EXPECT_EQ(sweeps.take().size(), 1000U);
}

// Every sweep has its own time and what the stage did in it, and all of them all that it did.
TEST(FirstSweeps, HaveWhatAStageDidInThem) {
  const ScratchPlace scratch;
  StageConfig config = tiny_stage({20, 30, 20, 30, 20, 30}, scratch);
  std::optional<FirstSweeps> sweeps;
  config.on_sweep = [&](const SweepWork& work) { sweeps->begin(work); };
  Stage stage(std::move(config));
  sweeps.emplace(stage.tracer(), shape_of(9, 8, 24));
  LiveCounts counts;
  CountedSweeps runner(stage, counts, [&] { sweeps->end(); });
  const PlanInput& input = stage.plan().input;
  BatchDriver driver(runner, input.policy, block_limits(input.policy, input.job), {});
  std::deque<RowRequest> rows(24);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i].id = RowId(static_cast<std::int64_t>(i));
    rows[i].prompt.assign(9, static_cast<std::int32_t>(5 + i));
    rows[i].max_new_tokens = 8;
  }
  ListedRows source(rows);
  RowCallbacks callbacks;
  callbacks.on_token = [](RowId, std::int32_t) { return false; };
  callbacks.on_finished = [](RowId, FinishReason) {};
  driver.run(source, callbacks);
  const std::vector<SeenSweep> seen = sweeps->take();
  const PhaseTimes& times = driver.times();
  ASSERT_EQ(std::ssize(seen), times.prefill.num_sweeps + times.decode.num_sweeps + times.mixed.num_sweeps);
  double tokens = 0, seconds = 0;
  std::uint64_t computed_ns = 0;
  for (const SeenSweep& sweep : seen) {
    for (const SweepRows& kind : sweep.kinds) tokens += kind.tokens();
    EXPECT_GT(sweep.seconds, 0);
    seconds += sweep.seconds;
    computed_ns += sweep.used[static_cast<std::size_t>(Resource::compute)].occupied_ns;
  }
  EXPECT_DOUBLE_EQ(tokens, 24 * (9 + 7));
  EXPECT_LE(static_cast<double>(computed_ns) * 1e-9, seconds);
  EXPECT_EQ(computed_ns, stage.tracer().totals()[static_cast<std::size_t>(Resource::compute)].occupied_ns);
}

}  // namespace
}  // namespace flexgen::test
