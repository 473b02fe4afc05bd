// Which rows share a sweep under the rolling rule: places are taken again at once, prompts are cut to the budget, rows
// that are few are shared out.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.hpp"
#include "tests/batch/scripted_job.hpp"

namespace flexgen::test {
namespace {

using Sweeps = std::vector<std::vector<std::vector<std::int64_t>>>;
using Counts = std::vector<std::int32_t>;

ScriptedJob uniform_job(std::int32_t num_groups, int num_rows, std::int32_t new_tokens) {
  ScriptedJob job(2, 2, num_groups);
  for (int r = 0; r < num_rows; ++r) job.add(3, new_tokens);
  return job;
}

// New tokens of a row in each sweep, 0 where it is in none.
Counts counts_of(const ScriptedJob& job, RowId id) {
  Counts counts;
  for (const SweepWork& work : job.runner.sweeps) {
    counts.push_back(0);
    for (const MicroBatchWork& batch : work.micro_batches)
      for (const RowWork& row : batch.rows)
        if (row.row == id) counts.back() = row.count();
  }
  return counts;
}

TEST(RollingAdmission, ARowTakesThePlaceOfOneThatHasEnded) {
  ScriptedJob job(2, 1);
  for (const std::int32_t made : {4, 1, 2, 1}) job.add(3, made);
  job.run();
  EXPECT_EQ(job.rows_of_sweeps(), (Sweeps{{{0, 2}}, {{0, 2}}, {{1, 0}}, {{3, 0}}}))
      << "what makes most goes first; a row that reads its prompt stands before those that decode";
  EXPECT_EQ(job.runner.sweeps[2].num_prompt_tokens(), 3);
  EXPECT_EQ(job.runner.sweeps[2].num_decode_tokens(), 1);
}

TEST(RollingAdmission, ARowThatStopsLeavesItsPlaceToTheNext) {
  ScriptedJob job(1, 1);
  job.add(3, 9);
  job.add(3, 8);
  job.eos_tokens = {1004};  // the first row's second
  job.run();
  EXPECT_EQ(job.rows_of_sweeps().size(), 10U);
  EXPECT_EQ(job.rows_of_sweeps()[2], (Sweeps::value_type{{1}}));
  EXPECT_EQ(job.runner.sweeps[0].micro_batches[0].rows[0].cache_begin, 0);
  EXPECT_EQ(job.runner.sweeps[2].micro_batches[0].rows[0].cache_begin, 0);
}

TEST(RollingAdmission, PromptsAreCutToWhatDecodingLeavesOfTheBudget) {
  ScriptedJob job(3, 1);
  job.limits.num_tokens = 6;
  job.add(2, 9);
  job.add(10, 3);
  job.add(5, 1);
  job.run();
  EXPECT_EQ(counts_of(job, RowId(0)), (Counts{2, 1, 1, 1, 1, 1, 1, 1, 1}));
  EXPECT_EQ(counts_of(job, RowId(1)), (Counts{4, 4, 2, 1, 1, 0, 0, 0, 0}))
      << "no single token is left, and the rest before another begins";
  EXPECT_EQ(counts_of(job, RowId(2)), (Counts{0, 0, 0, 3, 2, 0, 0, 0, 0}));
  EXPECT_EQ(job.told[RowId(1)].tokens, (std::vector{1110, 1111, 1112}));
}

TEST(RollingAdmission, APromptIsNotBegunWithASliver) {
  ScriptedJob job(3, 1);
  job.limits.num_tokens = 110;
  job.limits.slots = {CacheSpace{{1024}}};
  job.add(100, 9);
  job.add(200, 8);
  job.add(20, 7);
  job.run();
  EXPECT_EQ(counts_of(job, RowId(1)), (Counts{0, 109, 91, 1, 1, 1, 1, 1, 1, 1}));
  EXPECT_EQ(counts_of(job, RowId(2)), (Counts{0, 0, 0, 20, 1, 1, 1, 1, 1, 1})) << "18 were left, of 20";
}

TEST(RollingAdmission, ABudgetOfOneTokenARowIsEnough) {
  ScriptedJob job(2, 1);
  job.limits.num_tokens = 2;
  for (int r = 0; r < 4; ++r) job.add(5, 3);
  job.run();
  for (const auto& [row, told] : job.told) EXPECT_EQ(told.tokens.size(), 3U);
  EXPECT_EQ(job.told.size(), 4U);
}

TEST(RollingAdmission, ARowBringsNoMoreThanACallMayHave) {
  ScriptedJob job(1, 1);
  job.limits.slots = {CacheSpace{{16384}}};
  job.add(10000, 1);
  job.run();
  EXPECT_EQ(counts_of(job, RowId(0)), (Counts{4096, 4096, 1808}));
}

TEST(RollingAdmission, ScoresOfChunksAreToldOnce) {
  ScriptedJob job(2, 1);
  job.limits.num_tokens = 3;
  job.add(7, 0).score_prompt = true;
  job.add(5, 2).score_prompt = true;
  job.run();
  EXPECT_EQ(job.told[RowId(0)].scores, (std::vector<float>{-101, -102, -103, -104, -105, -106}));
  EXPECT_EQ(job.told[RowId(1)].scores, (std::vector<float>{-201, -202, -203, -204}));
  EXPECT_EQ(job.told[RowId(1)].tokens, (std::vector{1105, 1106}));
  EXPECT_GT(job.runner.num_sweeps(), 4);
}

TEST(RollingAdmission, ARowWithoutNumbersEndsWithTheChunkThatHasNone) {
  ScriptedJob job(1, 1);
  job.limits.num_tokens = 3;
  job.add(9, 5).score_prompt = true;
  job.add(2, 1);
  job.runner.token = [](RowId row, std::int32_t length) { return row == RowId(0) && length == 5 ? -1 : 60; };
  job.run();
  EXPECT_EQ(job.told[RowId(0)].ends, std::vector{FinishReason::not_a_number});
  EXPECT_EQ(job.told[RowId(0)].scores, (std::vector<float>{-101, -102, -103})) << "of its first chunk";
  EXPECT_EQ(counts_of(job, RowId(0)), (Counts{3, 3, 0})) << "its second chunk";
  EXPECT_EQ(job.told[RowId(1)].tokens, std::vector{60});
}

TEST(RollingAdmission, FewRowsAreSharedByAllGroups) {
  ScriptedJob even = uniform_job(2, 4, 1);
  even.run();
  EXPECT_EQ(even.rows_of_sweeps(), (Sweeps{{{0, 1}}, {{2, 3}}})) << "two rows each, not four and none";
  ScriptedJob uneven = uniform_job(4, 6, 1);
  uneven.run();
  EXPECT_EQ(uneven.rows_of_sweeps(), (Sweeps{{{0, 1}}, {{2, 3}}, {{4}}, {{5}}}));
  ScriptedJob full = uniform_job(4, 16, 3);
  full.run();
  EXPECT_EQ(full.runner.num_sweeps(), 12);
  EXPECT_EQ(full.runner.most_under_way, 4U);
}

TEST(RollingAdmission, AGroupLeavesTheLastRowsToTheOthers) {
  ScriptedJob job = uniform_job(2, 8, 4);
  for (std::size_t r = 8; r < 10; ++r) job.add(3, 2);
  job.rows[0].max_new_tokens = job.rows[1].max_new_tokens = job.rows[2].max_new_tokens = 1;
  job.run();
  std::vector<std::size_t> rows(2);
  std::size_t both = 0;
  for (const SweepWork& work : job.runner.sweeps) {
    std::size_t& own = rows[work.group.index()];
    own = 0;
    for (const MicroBatchWork& batch : work.micro_batches) own += batch.rows.size();
    both += rows[0] > 0 && rows[1] > 0 ? 1 : 0;
    EXPECT_LE(own, 4U);
  }
  EXPECT_EQ(both + 1, job.runner.sweeps.size()) << "both have rows to the end";
}

// Every micro-batch costs a call a layer in every sweep.
TEST(RollingAdmission, FewRowsWaitForTokensRatherThanForAMicroBatchOfTheirOwn) {
  ScriptedJob job(4, 3);
  job.limits.num_tokens = 10;
  for (int r = 0; r < 4; ++r) job.add(5, 6);
  job.run();
  for (const SweepWork& work : job.runner.sweeps) EXPECT_EQ(work.micro_batches.size(), 1U);
  ScriptedJob more(4, 3);
  more.limits.num_tokens = 10;
  for (int r = 0; r < 5; ++r) more.add(5, 6);
  more.run();
  EXPECT_EQ(more.runner.sweeps[0].micro_batches.size(), 2U);
}

TEST(RollingAdmission, ARowGoesWhereItsRunFits) {
  ScriptedJob job(2, 2);
  job.limits.slots = {CacheSpace{{16, 8}}, CacheSpace{{16, 8}}};
  for (int r = 0; r < 5; ++r) job.add(10, 4);
  job.run();
  ASSERT_EQ(job.rows_of_sweeps()[0], (Sweeps::value_type{{0}, {1}})) << "none of them fits into a band of 8";
  for (const SweepWork& work : job.runner.sweeps)
    for (const MicroBatchWork& batch : work.micro_batches) EXPECT_EQ(batch.rows.size(), 1U);
}

TEST(RollingAdmission, ARowThatFitsNowhereIsAnError) {
  ScriptedJob job(1, 1);
  job.limits.slots = {CacheSpace{{16}}};
  job.add(17, 1);
  EXPECT_THROW(job.run(), InternalError);
}

TEST(RollingAdmission, WithoutACountAWindowIsPulledAheadAndNoMore) {
  ScriptedJob job(1, 2);
  for (int r = 0; r < 40; ++r) job.add(3, 2);
  UnknownRows source(job.rows);
  std::size_t num_ended = 0, most_ahead = 0;
  job.runner.spoil = [&](std::vector<SampledTokens>&) {
    num_ended = 0;
    for (const auto& [row, told] : job.told) num_ended += told.ends.size();
    most_ahead = std::max(most_ahead, source.num_pulled - num_ended);
  };
  job.run(source);
  EXPECT_EQ(job.told.size(), 40U);
  EXPECT_EQ(job.runner.num_sweeps(), 40) << "two rows at a time, two sweeps each";
  EXPECT_EQ(most_ahead, 2U + 4 * 2) << "those in flight, and four times as many";
}

TEST(RollingAdmission, TheSameJobGivesTheSameSweeps) {
  std::vector<std::vector<SweepWork>> sweeps;
  for (int run = 0; run < 2; ++run) {
    ScriptedJob job(3, 2, 2);
    job.limits.num_tokens = 12;
    for (int r = 0; r < 60; ++r) job.add(static_cast<std::size_t>(1 + r * 7 % 20), 1 + r * 11 % 13);
    job.run();
    sweeps.push_back(job.runner.sweeps);
  }
  EXPECT_EQ(sweeps[0], sweeps[1]);
}

}  // namespace
}  // namespace flexgen::test
