// Rows that begin alike, over whole jobs: the runner watches that what they share is there and is theirs. What is read
// and what is saved come out as the prompts' tokens.
#include <gtest/gtest.h>

#include <random>
#include <tuple>

#include "tests/batch/scripted_job.hpp"

namespace flexgen::test {
namespace {

std::vector<std::int32_t> tokens_of(std::int32_t stream, std::int32_t count) {
  std::vector<std::int32_t> tokens;
  for (std::int32_t t = 0; t < count; ++t) tokens.push_back(1000 * stream + t);
  return tokens;
}

void append(std::vector<std::int32_t>& prompt, std::int32_t stream, std::int32_t count) {
  for (const std::int32_t token : tokens_of(stream, count)) prompt.push_back(token);
}

void limit(ScriptedJob& job, std::vector<std::int32_t> bands, std::int32_t num_tokens) {
  for (CacheSpace& slot : job.limits.slots) slot.bands = bands;
  job.limits.num_tokens = num_tokens;
}

// Every row was told all of its tokens; prompts were read, or shared with others.
void expect_whole(const ScriptedJob& job, const PhaseTimes& times) {
  std::int64_t prompt_tokens = 0;
  for (const RowRequest& row : job.rows) {
    prompt_tokens += std::ssize(row.prompt);
    const Told& told = job.told.at(row.id);
    ASSERT_EQ(std::ssize(told.tokens), row.max_new_tokens) << "row " << row.id.value;
    ASSERT_EQ(told.ends, std::vector{FinishReason::length}) << "row " << row.id.value;
  }
  const std::int64_t read = times.prefill.num_prompt_tokens + times.mixed.num_prompt_tokens;
  EXPECT_EQ(read + job.num_saved_tokens, prompt_tokens);
  EXPECT_EQ(job.num_saved_tokens, job.runner.num_shared_tokens - job.runner.num_prefix_tokens);
}

TEST(SharedPrefixJobs, AnInstructionIsReadOncePerSlot) {
  ScriptedJob job(8, 2, 2);
  job.shape.num_prefixes = 2;
  limit(job, {8 * 544}, 600);
  for (std::int32_t r = 0; r < 200; ++r) {
    std::vector<std::int32_t> prompt = tokens_of(1, 400);
    append(prompt, 10 + r, 60 + r % 90);
    job.add(prompt, 1 + r % 20);
  }
  expect_whole(job, job.run());
  EXPECT_EQ(job.runner.num_prefix_tokens, 4 * 384);
  EXPECT_EQ(job.num_saved_tokens, (200 - 4) * 384);
}

TEST(SharedPrefixJobs, RowsThatShareRunTogether) {
  ScriptedJob job(4, 1);
  job.shape.num_prefixes = 8;
  limit(job, {4 * 256}, 600);
  for (std::int32_t r = 0; r < 32; ++r) {  // eight instructions, in turn
    std::vector<std::int32_t> prompt = tokens_of(1 + r % 8, 128);
    append(prompt, 100 + r, 10);
    job.add(prompt, 5);
  }
  expect_whole(job, job.run());
  EXPECT_LE(job.runner.num_prefix_tokens, 9 * 128) << "hardly one is read twice";
}

TEST(SharedPrefixJobs, WhereNothingIsAlikeNothingChanges) {
  const auto sweeps_of = [](std::int32_t num_prefixes) {
    ScriptedJob job(4, 2);
    job.shape.num_prefixes = num_prefixes;
    limit(job, {4 * 240}, 200);
    for (std::int32_t r = 0; r < 60; ++r) job.add(static_cast<std::size_t>(20 + 37 * r % 190), 1 + r % 30);
    job.run();
    return job.runner.sweeps;
  };
  EXPECT_EQ(sweeps_of(0), sweeps_of(4));
}

TEST(SharedPrefixJobs, ScoredPromptsAreReadWhole) {
  ScriptedJob job(4, 1);
  job.shape.num_prefixes = 4;
  limit(job, {4 * 256}, 1000);
  for (std::int32_t r = 0; r < 6; ++r) job.add(tokens_of(1, 200), 0).score_prompt = true;
  job.run();
  EXPECT_EQ(job.num_saved_tokens, 0);
  EXPECT_EQ(job.told.at(RowId(5)).scores.size(), 199U);
}

TEST(SharedPrefixJobs, WhatNobodyUsesMakesRoom) {
  ScriptedJob job(2, 1);
  job.shape.num_prefixes = 2;
  limit(job, {512}, 1000);
  for (std::int32_t r = 0; r < 4; ++r) {
    std::vector<std::int32_t> prompt = tokens_of(1, 200);
    append(prompt, 10 + r, 20);
    job.add(prompt, 3);
  }
  job.add(static_cast<std::size_t>(500), 5);  // needs the whole slot
  expect_whole(job, job.run());
  EXPECT_GT(job.num_saved_tokens, 0);
}

// Trees of three depths in any sizes of block, cache and budget.
TEST(SharedPrefixJobs, RandomTrees) {
  for (std::uint32_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto below = [&](std::uint32_t end) { return static_cast<std::int32_t>(random() % end); };
    const std::int32_t rows = 1 + below(8), groups = 1 + below(3);
    ScriptedJob job(rows, 1 + below(3), groups);
    job.shape.num_prefixes = 1 + below(6);
    job.runner.keeps_sweeps = false;
    std::vector<std::int32_t> bands{720 + 8 * below(200)};
    if (below(2) == 0) bands.push_back(8 * (1 + below(100)));
    limit(job, bands, rows + below(500) + (below(4) == 0 ? 0 : 1));
    const std::int32_t trunk = below(300), kinds = 1 + below(5);
    for (std::int32_t r = 0; r < 120; ++r) {
      std::vector<std::int32_t> prompt;
      if (below(4) > 0) append(prompt, 1, trunk);
      if (below(3) > 0) append(prompt, 2 + below(static_cast<std::uint32_t>(kinds)), 60 + below(140));
      append(prompt, 100 + r, 1 + below(150));
      job.add(std::move(prompt), 1 + below(40));
    }
    expect_whole(job, job.run());
    EXPECT_GE(job.num_saved_tokens, 0);
  }
}

}  // namespace
}  // namespace flexgen::test
