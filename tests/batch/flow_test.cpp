// What rolling blocks are for, over whole jobs: places and cache stay full, and the end is short. The limits are those
// that the policy gives to the job; the runner watches that they are kept.
#include <gtest/gtest.h>

#include <array>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include "policy/block_limits.hpp"
#include "tests/batch/scripted_job.hpp"

namespace flexgen::test {
namespace {

struct Sizes {
  std::int32_t rows = 1, micro_batches = 1, groups = 1;

  std::int32_t in_flight() const { return rows * micro_batches * groups; }
};

// Prompts of 40 .. 250 tokens, answers of very different lengths.
void add_questions(ScriptedJob& job, std::int32_t count) {
  constexpr std::array answers{8, 16, 32, 64, 128, 256};
  std::mt19937 random(7);
  for (std::int32_t r = 0; r < count; ++r) {
    const std::size_t prompt = 40 + random() % 211;
    job.add(prompt, answers[random() % answers.size()]);
  }
}

void limit_by_policy(ScriptedJob& job) {
  JobShape shape;
  for (const RowRequest& row : job.rows)
    shape.add_rows(static_cast<std::int32_t>(row.prompt.size()), row.max_new_tokens);
  Policy policy;
  static_cast<BlockShape&>(policy) = job.shape;
  job.limits = block_limits(policy, shape);
}

struct Flow {
  double rows = 0;    // in flight in a sweep, of those that a block can have, on average
  double held = 0;    // of the reserved positions, at the peak
  double sweeps = 0;  // of those that the job would need if every one were full
};

Flow measure(const ScriptedJob& job) {
  Flow flow;
  const auto sum = [](double total, const auto& item) { return total + item.second; };
  std::map<std::int32_t, double> held;  // by slot
  double row_sweeps = 0;
  for (const SweepWork& work : job.runner.sweeps) {
    for (std::int32_t k = 0; k < job.shape.num_micro_batches; ++k)
      held[work.group.value * job.shape.num_micro_batches + k] = 0;
    for (const MicroBatchWork& batch : work.micro_batches) {
      row_sweeps += static_cast<double>(batch.rows.size());
      for (const RowWork& row : batch.rows)
        held[batch.slot] += whole_grains(positions_wanted(job.rows[row.row.index()]));
    }
    flow.held = std::max(flow.held, std::accumulate(held.begin(), held.end(), 0.0, sum));
  }
  double reserved = 0, wanted = 0;
  for (const CacheSpace& space : job.limits.slots) reserved += space.num_positions();
  for (const RowRequest& row : job.rows) wanted += row.max_new_tokens;
  const auto num_sweeps = static_cast<double>(job.runner.num_sweeps());
  const auto block = static_cast<double>(job.shape.block_rows());
  flow.rows = row_sweeps / num_sweeps / block;
  flow.held /= reserved;
  flow.sweeps = num_sweeps * block / wanted;
  return flow;
}

Flow run_questions(const Sizes& sizes, std::int32_t waves, BlockRule rule) {
  ScriptedJob job(sizes.rows, sizes.micro_batches, sizes.groups, rule);
  add_questions(job, waves * sizes.in_flight());
  limit_by_policy(job);
  job.run();
  EXPECT_EQ(job.told.size(), job.rows.size());
  return measure(job);
}

class Flows : public testing::TestWithParam<Sizes> {};

TEST_P(Flows, KeepPlacesAndCacheFullInALongJob) {
  const Flow flow = run_questions(GetParam(), 16, BlockRule::rolling);
  EXPECT_GE(flow.rows, 0.92);
  EXPECT_GE(flow.held, 0.95);
  EXPECT_LE(flow.sweeps, 1.08);
}

TEST_P(Flows, AreShortInAShortJob) {
  const Flow flow = run_questions(GetParam(), 4, BlockRule::rolling);
  EXPECT_GE(flow.held, 0.95);
  EXPECT_LE(flow.sweeps, 1.25);
  EXPECT_GE(run_questions(GetParam(), 4, BlockRule::fixed).sweeps, 2.3) << "half of it is what others wait for";
}

INSTANTIATE_TEST_SUITE_P(Sizes, Flows,
                         testing::Values(Sizes{8, 1}, Sizes{8, 4}, Sizes{16, 8}, Sizes{64, 1}, Sizes{64, 4},
                                         Sizes{16, 2, 2}, Sizes{8, 1, 4}),
                         [](const auto& info) {
                           const Sizes& s = info.param;
                           return std::to_string(s.rows) + "x" + std::to_string(s.micro_batches) + "x" +
                                  std::to_string(s.groups);
                         });

// A job that fills its block once, as FlexGen's benchmarks do, has no long run in which slow filling could be made up.
TEST(Flow, AJobOfOneBlockIsFilledAtOnce) {
  for (const std::int32_t made : {8, 32, 200}) {
    ScriptedJob job(8, 4);
    for (int r = 0; r < 32; ++r) job.add(512, made);
    limit_by_policy(job);
    job.run();
    EXPECT_LE(job.runner.num_sweeps(), made + 1 + made / 14) << made;
  }
}

// Fixed blocks reserve for each row what the longest needs; here it costs itself.
TEST(Flow, OneLongRowCostsItsOwnCacheAlone) {
  ScriptedJob job(16, 2);
  add_questions(job, 16 * 32);
  JobShape without;
  for (const RowRequest& row : job.rows)
    without.add_rows(static_cast<std::int32_t>(row.prompt.size()), row.max_new_tokens);
  job.rows[100].max_new_tokens = 900;
  const auto long_row = static_cast<std::int32_t>(job.rows[100].prompt.size()) + 899;
  Policy policy;
  static_cast<BlockShape&>(policy) = job.shape;
  job.limits = block_limits(policy, without);
  for (CacheSpace& space : job.limits.slots) space.bands.push_back(whole_grains(long_row));
  job.run();
  const Flow flow = measure(job);
  EXPECT_GE(flow.rows, 0.9) << "nobody waits for it";
  EXPECT_LE(flow.sweeps, 1.1);
}

// Rows come in the order of the job, by and large: none is passed over by more than a window of younger ones, and those
// that were begun elsewhere while a slot was cleared for it.
TEST(Flow, NobodyIsPassedOverForEver) {
  ScriptedJob job(4, 2);
  for (int r = 0; r < 2000; ++r) job.add(1 + static_cast<std::size_t>(r % 3), 2 + r % 7);
  job.rows[40].max_new_tokens = 64 - 8;  // so long that a slot must be all but empty
  job.rows[40].prompt.resize(8);
  for (CacheSpace& space : job.limits.slots) space.bands = {64};
  job.run();
  std::set<RowId> begun;
  bool is_long_row_begun = false;
  std::size_t fewest = 8;
  for (const SweepWork& work : job.runner.sweeps) {
    std::size_t rows = 0;
    for (const MicroBatchWork& batch : work.micro_batches)
      for (const RowWork& row : batch.rows) {
        begun.insert(row.row);
        is_long_row_begun = is_long_row_begun || row.row == RowId(40);
        ++rows;
      }
    if (is_long_row_begun) break;
    fewest = std::min(fewest, rows);
  }
  EXPECT_TRUE(is_long_row_begun);
  EXPECT_GT(begun.size(), 60U) << "it did not come first: the case is not made";
  EXPECT_LE(begun.size(), 140U) << "40 before it, 32 after it, and those beside the slot that waits";
  EXPECT_GE(fewest, 4U) << "the other slot went on meanwhile";
}

}  // namespace
}  // namespace flexgen::test
