// Which rows share a sweep under the fixed rule: blocks are filled when they are empty, shared out where rows are few.
#include <gtest/gtest.h>

#include "tests/batch/scripted_job.hpp"

namespace flexgen::test {
namespace {

using Sweeps = std::vector<std::vector<std::vector<std::int64_t>>>;

ScriptedJob uniform_job(std::int32_t num_groups, int num_rows, std::int32_t new_tokens) {
  ScriptedJob job(2, 2, num_groups, BlockRule::fixed);
  for (int r = 0; r < num_rows; ++r) job.add(3, new_tokens);
  return job;
}

TEST(FixedAdmission, OneGroupTakesFullBlocksInOrder) {
  ScriptedJob job = uniform_job(1, 9, 2);
  const PhaseTimes times = job.run();
  EXPECT_EQ(job.rows_of_sweeps(),
            (Sweeps{{{0, 1}, {2, 3}}, {{0, 1}, {2, 3}}, {{4, 5}, {6, 7}}, {{4, 5}, {6, 7}}, {{8}}, {{8}}}));
  EXPECT_EQ(times.prefill.num_sweeps, 3);
  EXPECT_EQ(times.decode.num_sweeps, 3);
}

TEST(FixedAdmission, AsManyRowsAsTheGroupsHoldNeedOneBlockEach) {
  for (const std::int32_t groups : {2, 4}) {
    ScriptedJob job = uniform_job(groups, 4 * groups, 3);
    EXPECT_EQ(job.run().prefill.num_sweeps, groups);
    EXPECT_EQ(job.runner.most_under_way, static_cast<std::size_t>(groups));
  }
}

TEST(FixedAdmission, FewRowsAreSharedByAllGroups) {
  ScriptedJob even = uniform_job(2, 4, 1);
  even.run();
  EXPECT_EQ(even.rows_of_sweeps(), (Sweeps{{{0, 1}}, {{2, 3}}})) << "two rows each, not four and none";
  ScriptedJob uneven = uniform_job(4, 6, 1);
  uneven.run();
  EXPECT_EQ(uneven.rows_of_sweeps(), (Sweeps{{{0, 1}}, {{2, 3}}, {{4}}, {{5}}}));
  ScriptedJob fewer = uniform_job(4, 2, 1);
  fewer.run();
  EXPECT_EQ(fewer.rows_of_sweeps(), (Sweeps{{{0}}, {{1}}}));
}

TEST(FixedAdmission, ABlockThatEndsWhileOthersRunTakesAllThatItHolds) {
  ScriptedJob job = uniform_job(2, 11, 1);
  job.rows[4].max_new_tokens = 3;  // holds the second group's first block
  job.run();
  EXPECT_EQ(job.rows_of_sweeps(), (Sweeps{{{0, 1}, {2, 3}}, {{4, 5}, {6, 7}}, {{8, 9}, {10}}, {{4}}, {{4}}}));
}

TEST(FixedAdmission, AStaticBlockKeepsItsRowsUntilTheLastEnds) {
  ScriptedJob job = uniform_job(1, 6, 1);
  job.rows[1].max_new_tokens = 3;
  job.rows[2].max_new_tokens = 2;
  job.run();
  EXPECT_EQ(job.rows_of_sweeps(), (Sweeps{{{0, 1}, {2, 3}}, {{1}, {2}}, {{1}}, {{4, 5}}}))
      << "rows and micro-batches that have ended are in no sweep; nobody takes their places before the block is empty";
}

TEST(FixedAdmission, MicroBatchesLieInTheSlotsOfTheirGroup) {
  ScriptedJob job = uniform_job(2, 8, 2);
  job.rows[4].max_new_tokens = job.rows[5].max_new_tokens = 1;
  job.run();
  ASSERT_EQ(job.runner.sweeps.size(), 4U);
  const auto slots = [&](std::size_t sweep) {
    std::vector<std::int32_t> all;
    for (const MicroBatchWork& batch : job.runner.sweeps[sweep].micro_batches) all.push_back(batch.slot);
    return all;
  };
  EXPECT_EQ(slots(0), (std::vector{0, 1}));
  EXPECT_EQ(slots(1), (std::vector{2, 3}));
  EXPECT_EQ(slots(3), std::vector{3}) << "the first micro-batch has ended, the second stays where its cache is";
}

TEST(FixedAdmission, WithoutACountBlocksAreFilledInTurn) {
  ScriptedJob job = uniform_job(2, 5, 1);
  UnknownRows source(job.rows);
  job.run(source);
  EXPECT_EQ(job.rows_of_sweeps(), (Sweeps{{{0, 1}, {2, 3}}, {{4}}}));
}

TEST(FixedAdmission, RowsArePulledWhenTheirPlacesAreFree) {
  ScriptedJob job = uniform_job(1, 12, 2);
  UnknownRows source(job.rows);
  std::vector<std::size_t> pulled;
  job.runner.spoil = [&](std::vector<SampledTokens>&) { pulled.push_back(source.num_pulled); };
  job.run(source);
  EXPECT_EQ(pulled, (std::vector<std::size_t>{5, 5, 9, 9, 12, 12})) << "a block, and one that says whether more follow";
}

TEST(FixedAdmission, AJobWithoutRowsIsFinishedAtOnce) {
  ScriptedJob job(2, 2, 3, BlockRule::fixed);
  const PhaseTimes times = job.run();
  EXPECT_TRUE(job.runner.sweeps.empty());
  EXPECT_EQ(times.prefill.num_sweeps + times.decode.num_sweeps, 0);
}

}  // namespace
}  // namespace flexgen::test
