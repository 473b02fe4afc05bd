// The cache that a sweep wants first is loaded at the end of the sweep before, by a guess at its rows: right in a
// decode, and harmless where rows have ended, blocks follow each other or groups take turns.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <string>

#include "base/bytes.hpp"
#include "engine/stage.hpp"
#include "model/slice_description.hpp"
#include "tests/support/in_process_job.hpp"
#include "tests/support/scratch_place.hpp"
#include "tests/support/tiny_model.hpp"

namespace flexgen::test {
namespace {

InProcessJob job_with(const std::array<double, 6>& percent, const ScratchPlace& scratch) {
  InProcessJob job;
  job.model = tiny_model();
  job.policy.micro_batch_size = 2;
  job.policy.num_micro_batches = 2;
  job.policy.placement = make_placement(percent);
  for (std::size_t r = 0; r < 4; ++r) job.prompts.emplace_back(3 + r, static_cast<std::int32_t>(5 + r));
  job.new_tokens = 6;
  job.offload_dir = scratch.path();
  job.make_source = [](int) { return make_random_source(); };
  return job;
}

// Bytes of the cache that were loaded from one embedding of a micro-batch 0 on to the next, before what that one does.
struct LoadsOfSweep {
  std::uint64_t bytes = 0;
  std::uint64_t after_head = 0;  // of them, when the sweep had computed its last
};

std::vector<LoadsOfSweep> loads_by_sweep(const std::vector<TraceEvent>& trace, std::size_t num_micro_batches) {
  std::vector<LoadsOfSweep> sweeps;
  std::size_t embedded = 0, heads = 0;
  for (const TraceEvent& event : trace) {
    if (event.resource == Resource::compute && event.name == "embedding" && embedded++ % num_micro_batches == 0)
      sweeps.emplace_back();
    if (event.resource == Resource::compute && event.name == "head") ++heads;
    if (event.resource != Resource::host_to_gpu || event.name != "cache" || sweeps.empty()) continue;
    sweeps.back().bytes += event.bytes;
    if (heads == sweeps.size() * num_micro_batches) sweeps.back().after_head += event.bytes;
  }
  return sweeps;
}

TEST(EarlyCache, IsLoadedAtTheEndOfTheSweepBefore) {
  const ScratchPlace scratch;
  InProcessJob job = job_with({0, 100, 0, 100, 0, 100}, scratch);
  job.policy.overlap = false;          // one call after the other, so that the trace is in the order of the calls
  job.policy.rule = BlockRule::fixed;  // rows in the order of the job
  job.keep_trace = true;
  const std::vector<LoadsOfSweep> sweeps = loads_by_sweep(run_in_process(job).trace, 2);
  ASSERT_EQ(sweeps.size(), 6U);
  const std::uint64_t position = 2 * 36 * element_bytes(job.policy.dtype);
  for (std::size_t s = 0; s + 1 < sweeps.size(); ++s) {
    SCOPED_TRACE(s);
    const std::uint64_t first = (3 + s) + (4 + s);  // positions of the first micro-batch's rows in the next sweep
    const std::uint64_t second = (5 + s) + (6 + s);
    const std::uint64_t own = s == 0 ? 0 : 4 * (first + second - 4) - (first - 2);  // four layers, but what was early
    EXPECT_EQ(sweeps[s].after_head, first * position);
    EXPECT_EQ(sweeps[s].bytes, (own + first) * position) << "nothing is loaded twice";
  }
  EXPECT_EQ(sweeps.back().after_head, 0U) << "nothing follows";
}

// Groups take turns, so a guess at the same group's rows would load every sweep's first cache for nothing.
TEST(EarlyCache, IsOfTheGroupWhoseTurnItIs) {
  const ScratchPlace scratch;
  InProcessJob job = job_with({100, 0, 0, 100, 100, 0}, scratch);
  job.num_ranks = 2;
  job.policy.num_micro_batches = 1;  // two groups of two rows
  job.keep_trace = true;
  std::uint64_t loaded = 0;
  for (const TraceEvent& event : run_in_process(job).trace)
    if (event.resource == Resource::host_to_gpu && event.name == "cache") loaded += event.bytes;
  std::uint64_t wanted = 0, longest = 0;  // positions of the four layers; of one layer in a group's last sweep
  for (std::uint64_t step = 0; step < 5; ++step) {
    wanted += 4 * (3 + 4 + 5 + 6 + 4 * step);
    longest = 5 + 6 + 2 * (step + 1);
  }
  const std::uint64_t position = 2 * 36 * element_bytes(job.policy.dtype);
  EXPECT_GE(loaded, wanted * position);
  EXPECT_LE(loaded, (wanted + 2 * longest) * position) << "more than the last sweep's guess on each rank is wasted";
}

// A stage with two rows of up to sixteen positions.
StageConfig small_stage(const std::array<double, 6>& percent, const ScratchPlace& scratch) {
  StageConfig config;
  const ModelSpec model = tiny_model(3);  // odd: a layer's image is not loaded over its own of the sweep before
  config.plan.bounds = balanced_slices(model, 1).front();
  Policy policy;
  policy.micro_batch_size = 2;
  policy.num_micro_batches = 1;
  policy.placement = make_placement(percent);
  config.plan.input = plan_input(
      model, describe_slice(model, config.plan.bounds, policy.separate_layers, config.device), policy, {5, 8, 16, 2});
  config.budgets = {GiB, GiB, GiB};
  config.plan.memory = plan_memory(config.plan.input, config.budgets);
  config.source = make_random_source();
  config.offload_dir = scratch.path();
  return config;
}

// Sweeps of one micro-batch with the rows that are named, each with its next token or, at first, its prompt. Gives all
// logits: a token of so small a model seldom depends on its cache.
std::vector<float> run_sweeps(const std::array<double, 6>& percent,
                              const std::vector<std::vector<std::int32_t>>& sweeps) {
  const ScratchPlace scratch;
  StageConfig config = small_stage(percent, scratch);
  std::vector<float> all_logits;  // of one sweep after the other: each is collected before the next
  config.on_logits = [&](std::int64_t, MicroBatchId, std::span<const float> logits) {
    all_logits.insert(all_logits.end(), logits.begin(), logits.end());
  };
  Stage stage(std::move(config));
  const std::int32_t row_positions = stage.plan().memory.cache.bands[0][0].num_positions / 2;
  std::map<std::int32_t, std::int32_t> lengths, last_tokens;
  for (std::size_t s = 0; s < sweeps.size(); ++s) {
    SweepWork work;
    work.number = static_cast<std::int64_t>(s);
    work.more_follow = s + 1 < sweeps.size();
    work.micro_batches.resize(1);
    for (const std::int32_t row : sweeps[s]) {
      std::vector<std::int32_t> next(5, 7 + row);
      if (lengths[row] > 0) next.assign(1, last_tokens[row]);
      work.micro_batches[0].rows.push_back({.row = RowId(row),
                                            .cache_row = row,
                                            .cache_begin = row * row_positions,
                                            .start = lengths[row],
                                            .tokens = next});
      lengths[row] += static_cast<std::int32_t>(next.size());
    }
    stage.run(work);
    const SampledTokens sampled = stage.collect(1).front();
    for (std::size_t r = 0; r < sweeps[s].size(); ++r) last_tokens[sweeps[s][r]] = sampled.tokens[r];
  }
  stage.finish();
  return all_logits;
}

TEST(EarlyCache, IsNotLoadedForRowsThatMakeNoToken) {
  const ScratchPlace scratch;
  StageConfig config = small_stage({100, 0, 0, 100, 100, 0}, scratch);
  config.keep_trace_events = true;
  Stage stage(std::move(config));
  for (std::int64_t number = 0; number < 3; ++number) {
    SweepWork work;
    work.number = number;
    work.more_follow = true;
    work.micro_batches.resize(1);
    for (std::int32_t row = 0; row < 2; ++row)
      work.micro_batches[0].rows.push_back(
          {.row = RowId(2 * number + row), .cache_row = row, .wants_token = false, .tokens = {3, 1, 4, 1, 5}});
    stage.run(work);
    stage.collect(1);
  }
  stage.finish();
  for (const TraceEvent& event : stage.tracer().events())
    EXPECT_FALSE(event.resource == Resource::host_to_gpu && event.name == "cache") << event.bytes;
}

TEST(EarlyCache, LacksARowThatSatASweepOut) {
  const std::vector<std::vector<std::int32_t>> sweeps{{0, 1}, {0, 1}, {0}, {0, 1}, {1}, {1}, {0, 1}};
  EXPECT_EQ(run_sweeps({100, 0, 0, 100, 100, 0}, sweeps), run_sweeps({100, 0, 100, 0, 100, 0}, sweeps));
}

struct Case {
  const char* name;
  std::array<double, 6> percent;
  int ranks;
  std::size_t rows;
};

class EarlyCacheGuess : public testing::TestWithParam<Case> {};

// Rows end at different steps, whole micro-batches among them, and others take their places.
TEST_P(EarlyCacheGuess, ChangesNoToken) {
  const Case& what = GetParam();
  const ScratchPlace scratch;
  InProcessJob job = job_with({100, 0, 100, 0, 100, 0}, scratch);
  job.num_ranks = what.ranks;
  job.new_tokens = 9;
  job.prompts.clear();
  for (std::size_t r = 0; r < what.rows; ++r) {
    job.prompts.emplace_back(2 + r % 5, static_cast<std::int32_t>(7 + r));
    job.fewer_tokens.push_back(static_cast<std::int32_t>(1 + (r * 5) % 9));
  }
  const InProcessResult resident = run_in_process(job);
  job.policy.placement = make_placement(what.percent);
  const InProcessResult staged = run_in_process(job);
  EXPECT_EQ(staged.ids, resident.ids);
  EXPECT_EQ(staged.logits, resident.logits);
}

INSTANTIATE_TEST_SUITE_P(Cases, EarlyCacheGuess,
                         testing::Values(Case{"Dram", {100, 0, 0, 100, 0, 100}, 1, 11},
                                         Case{"Disk", {0, 100, 0, 0, 0, 0}, 1, 11},
                                         Case{"ThreeTiers", {20, 30, 60, 20, 20, 30}, 1, 23},
                                         Case{"PartlyOnTheGpu", {0, 100, 75, 25, 100, 0}, 1, 23},
                                         Case{"TwoRanks", {0, 100, 0, 100, 0, 100}, 2, 23},
                                         Case{"ThreeRanks", {0, 100, 40, 30, 0, 100}, 3, 31}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace flexgen::test
