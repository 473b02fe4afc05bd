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
  EXPECT_EQ(sweeps.take().each.size(), 5U);
}

TEST(FirstSweeps, AreNotTakenWhereTheyAreTooFewToTell) {
  const Tracer tracer;
  FirstSweeps sweeps(tracer, shape_of(9, 2, 1));
  for (int i = 0; i < 3; ++i) sweeps.begin(work_of(19, true));
  EXPECT_TRUE(sweeps.take().each.empty());
}

TEST(FirstSweeps, AreBoundedInALongJob) {
  const Tracer tracer;
  FirstSweeps sweeps(tracer, shape_of(1000, 1000, 1'000'000));
  for (int i = 0; i < 1000; ++i) {
    EXPECT_FALSE(sweeps.are_enough());
    sweeps.begin(work_of(1, false));
  }
  EXPECT_TRUE(sweeps.are_enough());
  EXPECT_FALSE(sweeps.has_room());
  EXPECT_EQ(sweeps.take().each.size(), 1000U);
}

constexpr std::int64_t num_rows = 24;
constexpr std::int32_t prompt_tokens = 9, new_tokens = 8;

/// A job of these rows on a tiny stage.
struct TinyRun {
  ScratchPlace scratch;
  std::optional<FirstSweeps> sweeps;
  std::vector<std::vector<std::int32_t>> tokens = std::vector<std::vector<std::int32_t>>(num_rows);
  SeenSweeps seen;
  std::int64_t num_sweeps = 0;
  std::uint64_t computed_ns = 0;

  /// @param limit  of a micro-batch's tokens, once a sweep is done; 0: as planned
  explicit TinyRun(std::int32_t limit = 0) {
    StageConfig config = tiny_stage({20, 30, 20, 30, 20, 30}, scratch);
    config.on_sweep = [&](const SweepWork& work) { sweeps->begin(work); };
    Stage stage(std::move(config));
    sweeps.emplace(stage.tracer(), shape_of(prompt_tokens, new_tokens, num_rows));
    LiveCounts counts;
    CountedSweeps runner(stage, counts, [&] { sweeps->end(); });
    const PlanInput& input = stage.plan().input;
    BatchDriver driver(runner, input.policy, block_limits(input.policy, input.job), {});
    RowCallbacks callbacks;
    callbacks.on_token = [&](RowId row, std::int32_t token) {
      tokens.at(row.index()).push_back(token);
      return false;
    };
    callbacks.on_finished = [](RowId, FinishReason) {};
    callbacks.on_sweep = [&] {
      if (limit > 0 && counts.values().sweeps == 1) {
        stage.settle();
        driver.limit_tokens(limit);
      }
      return true;
    };
    ListedRows source(rows());
    driver.run(source, callbacks);
    seen = sweeps->take();
    const PhaseTimes& times = driver.times();
    num_sweeps = times.prefill.num_sweeps + times.decode.num_sweeps + times.mixed.num_sweeps;
    computed_ns = stage.tracer().totals()[static_cast<std::size_t>(Resource::compute)].occupied_ns;
  }

  static std::deque<RowRequest> rows() {
    std::deque<RowRequest> rows(num_rows);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      rows[i].id = RowId(static_cast<std::int64_t>(i));
      rows[i].prompt.assign(prompt_tokens, static_cast<std::int32_t>(5 + i));
      rows[i].max_new_tokens = new_tokens;
      rows[i].stop_at_eos = false;
    }
    return rows;
  }
};

// Every sweep has its own time and what the stage did in it, and all of them all that it did.
TEST(FirstSweeps, HaveWhatAStageDidInThem) {
  TinyRun run;
  ASSERT_EQ(std::ssize(run.seen.each), run.num_sweeps);
  double tokens = 0, seconds = 0;
  std::uint64_t computed_ns = 0;
  for (const SeenSweep& sweep : run.seen.each) {
    for (const SweepRows& kind : sweep.kinds) tokens += kind.tokens();
    EXPECT_GT(sweep.seconds, 0);
    seconds += sweep.seconds;
  }
  for (const TotalsByResource& used : run.seen.used)
    computed_ns += used[static_cast<std::size_t>(Resource::compute)].occupied_ns;
  EXPECT_DOUBLE_EQ(tokens, num_rows * (prompt_tokens + new_tokens - 1));
  EXPECT_LE(static_cast<double>(computed_ns) * 1e-9, seconds);
  EXPECT_EQ(computed_ns, run.computed_ns);
}

// What --replan may change.
TEST(FirstSweeps, TokensStayWhatTheyAreWhenASweepMayBringFewer) {
  TinyRun plain, limited(12);
  EXPECT_GT(limited.num_sweeps, plain.num_sweeps);
  EXPECT_EQ(limited.tokens, plain.tokens);
}

}  // namespace
}  // namespace flexgen::test
