#include "policy/row_flow.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace flexgen::test {
namespace {

BlockShape block_of(std::int32_t rows, std::int32_t micro_batches) {
  BlockShape block;
  block.micro_batch_size = rows;
  block.num_micro_batches = micro_batches;
  return block;
}

JobShape rows_alike(std::int64_t rows, std::int32_t prompt, std::int32_t generated) {
  JobShape job;
  job.add_rows(prompt, generated, rows);
  return job;
}

struct Sums {
  double sweeps = 0, prompts = 0, began = 0, tokens = 0, most = 0;
};

Sums follow(const BlockShape& block, const JobShape& job) {
  Sums sums;
  follow_rows(block, job, [&](const FlowSweep& sweep) {
    sums.sweeps += sweep.count;
    sums.prompts += sweep.count * sweep.prompt_tokens;
    sums.began += sweep.count * sweep.beginning;
    sums.tokens += sweep.count * (sweep.beginning + sweep.decoding);
    sums.most = std::max(sums.most, sweep.beginning + sweep.decoding);
  });
  return sums;
}

TEST(RowFlow, AllRowsOfOneBlockRunAtOnce) {
  const Sums sums = follow(block_of(8, 2), rows_alike(16, 4, 10));
  EXPECT_NEAR(sums.sweeps, 10, 1e-9);
  EXPECT_NEAR(sums.prompts, 64, 1e-9);
  EXPECT_NEAR(sums.tokens, 160, 1e-6);
}

TEST(RowFlow, EveryRowIsReadOnceAndMakesItsTokens) {
  for (const std::int64_t rows : {1, 5, 16, 40, 200, 5000})
    for (const std::int32_t prompt : {1, 100, 900}) {
      const Sums sums = follow(block_of(8, 2), rows_alike(rows, prompt, 12));
      const auto all = static_cast<double>(rows);
      EXPECT_NEAR(sums.began / all, 1, 1e-6) << rows << " " << prompt;
      EXPECT_NEAR(sums.tokens / (12 * all), 1, 0.02) << rows << " " << prompt;
      EXPECT_LE(sums.most, 16 + 1e-9) << "places";
    }
}

// A plan makes room for rows as long as the model takes them: those that are known do not grow by it.
TEST(RowFlow, RoomForLongRowsChangesNothing) {
  JobShape alike = rows_alike(1000, 20, 16), open = alike;
  open.add_rows(2048, 1);
  open.max_new_tokens = 2048;
  const Sums of_alike = follow(block_of(8, 2), alike), of_open = follow(block_of(8, 2), open);
  EXPECT_NEAR(of_open.sweeps / of_alike.sweeps, 1, 0.03);
}

TEST(RowFlow, LengthsSpreadAsTheyDo) {
  JobShape job;
  for (int i = 0; i < 2000; ++i) job.add_rows(10, 8 + i * 248 / 1999);
  const Sums sums = follow(block_of(16, 4), job);
  EXPECT_NEAR(sums.tokens / static_cast<double>(job.new_tokens), 1, 0.03);
  // With places always taken, and then a tail as long as the longest.
  EXPECT_NEAR(sums.sweeps, static_cast<double>(job.new_tokens) / 64, 0.06 * static_cast<double>(job.new_tokens) / 64);
}

TEST(RowFlow, WhatIsSharedIsNotRead) {
  JobShape job = rows_alike(100, 200, 4);
  job.shared_prompt_tokens = 99 * 128;
  BlockShape block = block_of(8, 2);
  EXPECT_NEAR(follow(block, job).prompts, 100 * 200, 1e-6) << "the block does not share";
  block.num_prefixes = 1;
  EXPECT_NEAR(follow(block, job).prompts, 100 * 200 - 99 * 128, 1e-6);
}

TEST(RowFlow, FixedBlocksWaitForTheirLast) {
  JobShape job;
  for (int i = 1; i <= 40; ++i) job.add_rows(10, i);
  BlockShape fixed = block_of(10, 1);
  fixed.rule = BlockRule::fixed;
  const Sums by_blocks = follow(fixed, job), rolling = follow(block_of(10, 1), job);
  EXPECT_GT(by_blocks.sweeps, 1.2 * rolling.sweeps);
  EXPECT_NEAR(by_blocks.began, 40, 1e-6);
}

TEST(RowFlow, GroupsShareTheRows) {
  BlockShape two = block_of(8, 1);
  two.num_groups = 2;
  EXPECT_NEAR(follow(two, rows_alike(160, 10, 8)).began, 80, 1e-6);
}

TEST(RowFlow, RaggedRowsMakeTheTokensOfTheJob) {
  JobShape job;
  for (int i = 0; i < 600; ++i) job.add_rows(30, 1 + i % 60);
  const Sums sums = follow(block_of(16, 2), job);
  EXPECT_NEAR(sums.tokens / static_cast<double>(job.new_tokens), 1, 0.06);
}

}  // namespace
}  // namespace flexgen::test
