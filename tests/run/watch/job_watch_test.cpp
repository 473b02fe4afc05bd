#include "run/watch/job_watch.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <thread>

#include "batch/batch_driver.hpp"
#include "comm/exchange.hpp"
#include "comm/in_process.hpp"
#include "policy/block_limits.hpp"
#include "run/watch/counted_sweeps.hpp"
#include "tests/support/listed_rows.hpp"
#include "tests/support/tiny_stage.hpp"

namespace flexgen::test {
namespace {

constexpr std::int64_t num_rows = 24;
constexpr std::size_t prompt_tokens = 9;
constexpr std::int32_t new_tokens = 8;

std::deque<RowRequest> rows() {
  std::deque<RowRequest> rows;
  for (std::int64_t i = 0; i < num_rows; ++i) {
    RowRequest row;
    row.id = RowId(i);
    row.prompt.assign(prompt_tokens, static_cast<std::int32_t>(5 + i));
    row.max_new_tokens = new_tokens;
    row.stop_at_eos = false;
    rows.push_back(std::move(row));
  }
  return rows;
}

/// Runs a job of these rows; returns how many sweeps it took.
std::int64_t run_rows(Stage& stage, LiveCounts& counts) {
  const PlanInput& input = stage.plan().input;
  CountedSweeps runner(stage, counts);
  BatchDriver driver(runner, input.policy, block_limits(input.policy, input.job), {});
  ListedRows source(rows());
  RowCallbacks callbacks;
  callbacks.on_token = [&](RowId, std::int32_t) {
    counts.add_tokens(1);
    return false;
  };
  callbacks.on_finished = [&](RowId, FinishReason) { counts.add_row(); };
  driver.run(source, callbacks);
  const PhaseTimes& times = driver.times();
  return times.prefill.num_sweeps + times.decode.num_sweeps + times.mixed.num_sweeps;
}

TEST(JobWatch, SeesAWholeRun) {
  const ScratchPlace scratch;
  Stage stage(tiny_stage({20, 30, 20, 30, 20, 30}, scratch));
  LiveCounts counts;
  counts.set_total_rows(num_rows);
  MetricsServer server("127.0.0.1", 0);
  JobWatch watch(stage, {"box", {}, &counts, &server});
  const std::int64_t num_sweeps = run_rows(stage, counts);
  const WatchReport seen = watch.finish();
  EXPECT_EQ(counts.values().sweeps, static_cast<std::uint64_t>(num_sweeps));
  EXPECT_EQ(counts.values().prompt_tokens, num_rows * prompt_tokens);
  const auto sum = [](const std::vector<std::uint64_t>& each) {
    return std::accumulate(each.begin(), each.end(), std::uint64_t{0});
  };
  EXPECT_EQ(sum(seen.activity.rows), static_cast<std::uint64_t>(num_rows));
  EXPECT_EQ(sum(seen.activity.tokens), static_cast<std::uint64_t>(num_rows * new_tokens));
  ASSERT_TRUE(seen.activity.busy.contains("compute"));
  EXPECT_TRUE(seen.activity.busy.contains("disk_read")) << "a part of all lies on ssd";
  double computing = 0;
  for (std::size_t i = 0; i < seen.activity.rows.size(); ++i)
    computing += seen.activity.busy.at("compute")[i] * (seen.activity.seconds[i + 1] - seen.activity.seconds[i]);
  double measured = 0;
  for (const TracePhase phase : {TracePhase::prefill, TracePhase::decode, TracePhase::mixed})
    measured +=
        static_cast<double>(stage.tracer().totals(phase)[static_cast<std::size_t>(Resource::compute)].occupied_ns) *
        1e-9;
  EXPECT_NEAR(computing, measured, 0.02 * measured + 1e-4);
}

TEST(JobWatch, WhatARankHasSeenTravels) {
  WatchReport seen;
  seen.activity = {{0, 0.5}, {{"compute", {0.25}}}, {3}, {4}};
  seen.energy = {{"gpu", "0000:3b:00.0", "box", 12.5}};
  InProcessWorld world(1);
  const WatchReport same = gather(*world.communicator(0), seen).at(0);
  EXPECT_EQ(same.activity.seconds, seen.activity.seconds);
  EXPECT_EQ(same.activity.busy, seen.activity.busy);
  EXPECT_EQ(same.activity.rows, seen.activity.rows);
  ASSERT_EQ(same.energy.size(), 1U);
  EXPECT_EQ(same.energy[0].joules, 12.5);
}

TEST(JobWatch, EndsWithARunThatGoesWrong) {
  const ScratchPlace scratch;
  Stage stage(tiny_stage({100, 0, 100, 0, 100, 0}, scratch));
  testing::internal::CaptureStderr();
  try {
    const JobWatch watch(stage, {"box", {}});
    throw std::runtime_error("a fault");
  } catch (const std::runtime_error&) {
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "") << "nothing was shown, so there is nothing to leave";
}

TEST(JobWatch, GoesOnOverTheStagesOfAJob) {
  const ScratchPlace scratch;
  LiveCounts counts;
  auto stage = std::make_unique<Stage>(tiny_stage({20, 30, 20, 30, 20, 30}, scratch));
  JobWatch watch(*stage, {"box", {}, &counts, nullptr});
  double measured = 0;
  for (int pass = 0; pass < 3; ++pass) {
    if (pass > 0) {
      stage = std::make_unique<Stage>(tiny_stage({20, 30, 20, 30, 20, 30}, scratch));
      watch.follow(*stage);
    }
    run_rows(*stage, counts);
    for (const TracePhase phase : {TracePhase::prefill, TracePhase::decode, TracePhase::mixed})
      measured +=
          static_cast<double>(stage->tracer().totals(phase)[static_cast<std::size_t>(Resource::compute)].occupied_ns) *
          1e-9;
    watch.leave_stage();
    stage.reset();
    std::this_thread::sleep_for(std::chrono::milliseconds(60));  // it is looked at while there is none
  }
  const ActivityReport seen = watch.finish().activity;
  EXPECT_EQ(std::accumulate(seen.rows.begin(), seen.rows.end(), std::uint64_t{0}), 3 * std::uint64_t{num_rows});
  double computing = 0;
  for (std::size_t i = 0; i < seen.rows.size(); ++i)
    computing += seen.busy.at("compute")[i] * (seen.seconds[i + 1] - seen.seconds[i]);
  EXPECT_NEAR(computing, measured, 0.02 * measured + 1e-4);
}

}  // namespace
}  // namespace flexgen::test
