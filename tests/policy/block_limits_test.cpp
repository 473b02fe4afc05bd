// What a micro-batch has for its rows: positions, bands, tokens of a sweep.
#include "policy/block_limits.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "base/error.hpp"

namespace flexgen::test {
namespace {

Policy policy_of(std::int32_t rows, std::int32_t micro_batches = 1) {
  Policy policy;
  policy.micro_batch_size = rows;
  policy.num_micro_batches = micro_batches;
  return policy;
}

JobShape rows_alike(std::int32_t prompt, std::int32_t generated, std::int64_t count) {
  JobShape job;
  job.add_rows(prompt, generated, count);
  return job;
}

// Of 100 rows one is very long.
JobShape one_long_row() {
  JobShape job = rows_alike(50, 14, 99);
  job.add_rows(60, 2000);
  return job;
}

TEST(JobShape, CountsRowsAndWeighsThoseInFlight) {
  JobShape job;
  job.add_rows(10, 1, 2);
  job.add_rows(20, 5);
  job.add_rows(30, 0);
  EXPECT_EQ(job.num_rows, 4);
  EXPECT_EQ(job.max_prompt_tokens, 30);
  EXPECT_EQ(job.max_new_tokens, 5);
  EXPECT_EQ(job.max_row_tokens, 30);
  EXPECT_EQ(job.prompt_tokens, 70);
  EXPECT_EQ(job.new_tokens, 7);
  EXPECT_EQ(job.flight_sweeps, 2 * 1 + 5 + 1);
  EXPECT_EQ(job.flight_positions, 2 * 10 + 5 * 24 + 30);
  EXPECT_EQ(job.flight_squares, 2 * 100 + 5 * 24 * 24 + 900);
  EXPECT_EQ(job.decode_positions, 20 + 21 + 22 + 23);
}

TEST(JobShape, TheMeanPositionIsThatOfTokensThatWereMade) {
  JobShape job = rows_alike(20, 5, 3);
  EXPECT_EQ(job.mean_decode_position(), 21.5);
  EXPECT_EQ(rows_alike(20, 1, 3).mean_decode_position(), 0);
}

TEST(BlockLimits, RowsThatAreAlikeHaveWhatTheyTake) {
  EXPECT_EQ(cache_positions(policy_of(7), rows_alike(100, 29, 50)), 7 * 128);
  EXPECT_EQ(cache_positions(policy_of(7), rows_alike(100, 30, 50)), 7 * 136) << "whole grains";
}

TEST(BlockLimits, ALongRowCostsWhatItTakesItself) {
  Policy policy = policy_of(16);
  const std::int32_t longest = 2064;  // 60 + 2000 - 1, in whole grains
  policy.rule = BlockRule::fixed;
  EXPECT_EQ(cache_positions(policy, one_long_row()), 16 * longest);
  policy.rule = BlockRule::rolling;
  // In flight it is seen for 2000 of 99 * 14 + 2000 tokens.
  EXPECT_LT(cache_positions(policy, one_long_row()), 16 * longest * 3 / 4);
  EXPECT_GE(cache_positions(policy_of(1), one_long_row()), longest);
}

TEST(BlockLimits, ABudgetHoldsATokenOfEveryRowAndTheFlowOfPrompts) {
  const JobShape job = rows_alike(512, 32, 100'000);
  EXPECT_EQ(micro_batch_tokens(policy_of(48), job), 48 + 2 * 48 * 512 / 32);
  EXPECT_EQ(micro_batch_tokens(policy_of(2), job), 2 + 256) << "not finer";
  EXPECT_EQ(micro_batch_tokens(policy_of(48), rows_alike(4, 100, 1000)), 48 * 4) << "never more than all prompts";
  EXPECT_EQ(micro_batch_tokens(policy_of(48), rows_alike(512, 32, 48)), 48 * 512) << "one wave begins at once";
  Policy policy = policy_of(48);
  policy.token_budget = 100;
  EXPECT_EQ(micro_batch_tokens(policy, job), 100);
  policy.token_budget = 0;
  policy.rule = BlockRule::fixed;
  EXPECT_EQ(micro_batch_tokens(policy, job), 48 * 512);
}

std::int32_t positions_of(const std::vector<CacheBand>& bands) {
  return std::accumulate(bands.begin(), bands.end(), 0,
                         [](std::int32_t sum, const CacheBand& band) { return sum + band.num_positions; });
}

TEST(BlockLimits, WithoutAttentionOnTheHostEverySlotIsOneBand) {
  Policy policy = policy_of(4, 3);
  policy.num_groups = 2;
  policy.placement.cache = {20, 50};
  const auto slots = cache_bands(policy, rows_alike(10, 7, 9));
  ASSERT_EQ(slots.size(), 6U);
  for (const auto& bands : slots) {
    ASSERT_EQ(bands.size(), 1U);
    EXPECT_EQ(bands[0].num_positions, 4 * 16);
    EXPECT_EQ(bands[0].share, policy.placement.cache);
    EXPECT_FALSE(bands[0].attended_by_host);
  }
}

TEST(BlockLimits, WhereTheHostAttendsWholeRowsLieOnATier) {
  Policy policy = policy_of(8, 4);
  policy.placement.cache = {30, 70};
  policy.host_attention_percent = 50;
  double gpu = 0, host = 0, all = 0;
  for (const auto& bands : cache_bands(policy, rows_alike(10, 7, 9))) {
    EXPECT_EQ(positions_of(bands), 8 * 16);
    for (const CacheBand& band : bands) {
      EXPECT_EQ(band.num_positions % 16, 0) << "whole rows";
      gpu += band.share.gpu() > 0.5 ? band.num_positions : 0;
      host += band.attended_by_host ? band.num_positions : 0;
      all += band.num_positions;
      EXPECT_TRUE(band.share == (Share{100, 0}) || band.share == (Share{0, 100}));
    }
    EXPECT_TRUE(bands.back().attended_by_host) << "the last";
  }
  EXPECT_NEAR(gpu / all, 0.3, 1.0 / 32);
  EXPECT_NEAR(host / all, 0.35, 1.0 / 32);
}

TEST(BlockLimits, RanksThatTreatAllRowsAlikeCutTheirSlotsAsTheOthersDo) {
  Policy cutting = policy_of(8, 4);
  cutting.placement.cache = {30, 70};
  cutting.host_attention_percent = 50;
  cutting.cache_cut = cutting.own_cut();
  Policy resident = cutting;
  resident.placement.cache = {100, 0};
  resident.host_attention_percent = 0;
  Policy attending = cutting;
  attending.placement.cache = {0, 100};
  attending.host_attention_percent = 100;
  for (const JobShape& job : {rows_alike(10, 7, 9), one_long_row()}) {
    EXPECT_EQ(block_limits(resident, job), block_limits(cutting, job));
    EXPECT_EQ(block_limits(attending, job), block_limits(cutting, job));
    for (const auto& bands : cache_bands(resident, job))
      for (const CacheBand& band : bands) EXPECT_TRUE(band.share == (Share{100, 0}) && !band.attended_by_host);
    for (const auto& bands : cache_bands(attending, job))
      for (const CacheBand& band : bands) EXPECT_TRUE(band.share == (Share{0, 100}) && band.attended_by_host);
  }
  Policy otherwise = cutting;
  otherwise.host_attention_percent = 60;
  EXPECT_THROW(cache_bands(otherwise, rows_alike(10, 7, 9)), InternalError);
}

TEST(BlockLimits, SomeBandHoldsTheLongestRow) {
  Policy policy = policy_of(1, 2);
  policy.placement.cache = {50, 50};
  policy.host_attention_percent = 100;
  for (const JobShape& job : {rows_alike(100, 29, 50), one_long_row()})
    for (const CacheSpace& space : block_limits(policy, job).slots)
      EXPECT_GE(*std::ranges::max_element(space.bands), job.max_row_tokens);
}

}  // namespace
}  // namespace flexgen::test
