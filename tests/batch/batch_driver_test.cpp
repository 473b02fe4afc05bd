// Rows to their ends on a runner that answers from a script: what they are told, what follows, what is refused.
#include "batch/batch_driver.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <utility>

#include "base/error.hpp"
#include "tests/batch/scripted_job.hpp"

namespace flexgen::test {
namespace {

using Ids = std::vector<std::int32_t>;

TEST(BatchDriver, ARowGetsItsTokensInOrderAndReadsEachButTheLast) {
  ScriptedJob job(1, 1);
  job.add(4, 3);
  job.run();
  EXPECT_EQ(job.told[RowId(0)].tokens, (Ids{1004, 1005, 1006}));
  EXPECT_EQ(job.told[RowId(0)].ends, std::vector{FinishReason::length});
  ASSERT_EQ(job.runner.sweeps.size(), 3U);
  const auto row = [&](std::size_t sweep) { return job.runner.sweeps[sweep].micro_batches[0].rows[0]; };
  EXPECT_EQ(row(0), (RowWork{.row = RowId(0), .tokens = {100, 101, 102, 103}, .reads_prompt = true}));
  EXPECT_EQ(row(1), (RowWork{.row = RowId(0), .start = 4, .tokens = {1004}}));
  EXPECT_EQ(row(2), (RowWork{.row = RowId(0), .start = 5, .tokens = {1005}}));
  for (std::size_t s = 0; s < 3; ++s) EXPECT_EQ(job.runner.sweeps[s].more_follow, s < 2);
}

TEST(BatchDriver, AnEndOfSequenceTokenStopsTheRowsThatStopAtIt) {
  ScriptedJob job(4, 1);
  job.eos_tokens = {2, 7};
  for (int r = 0; r < 4; ++r) job.add(3, 5);
  job.rows[2].stop_at_eos = false;
  job.runner.token = [](RowId row, std::int32_t length) {
    if (row == RowId(3)) return length == 7 ? 2 : 50;  // as its last token
    return length == 4 ? (row == RowId(0) ? 2 : 7) : 50;
  };
  job.run();
  EXPECT_EQ(job.told[RowId(0)].tokens, (Ids{50, 2})) << "the token is passed, too";
  EXPECT_EQ(job.told[RowId(1)].tokens, (Ids{50, 7}));
  EXPECT_EQ(job.told[RowId(2)].tokens, (Ids{50, 7, 50, 50, 50}));
  EXPECT_EQ(job.told[RowId(3)].tokens, (Ids{50, 50, 50, 50, 2}));
  EXPECT_EQ(job.told[RowId(0)].ends, std::vector{FinishReason::stop});
  EXPECT_EQ(job.told[RowId(1)].ends, std::vector{FinishReason::stop});
  EXPECT_EQ(job.told[RowId(2)].ends, std::vector{FinishReason::length});
  EXPECT_EQ(job.told[RowId(3)].ends, std::vector{FinishReason::stop});
}

TEST(BatchDriver, ARowStopsWhereItIsToldTo) {
  ScriptedJob job(2, 1);
  job.add(2, 9);
  job.add(2, 3);
  job.stops = [](RowId, std::int32_t token) { return token == 1004 || token == 1104; };
  job.run();
  EXPECT_EQ(job.told[RowId(0)].tokens, (Ids{1002, 1003, 1004}));
  EXPECT_EQ(job.told[RowId(0)].ends, std::vector{FinishReason::stop});
  EXPECT_EQ(job.told[RowId(1)].ends, std::vector{FinishReason::stop}) << "its last token";
}

TEST(BatchDriver, AJobThatIsStoppedEndsItsSweepsAndLeavesRowsUnfinished) {
  for (const std::int32_t num_groups : {1, 2}) {
    ScriptedJob job(2, 1, num_groups);
    for (int r = 0; r < 9; ++r) job.add(2, 50);
    job.runner.leaves_rows = true;
    int asked = 0;
    job.goes_on = [&] { return ++asked <= 6; };
    job.run();
    EXPECT_EQ(job.runner.sweeps.size(), 6U) << "of all groups, and each was collected";
    std::size_t num_tokens = 0;
    for (const auto& [row, told] : job.told) {
      EXPECT_TRUE(told.ends.empty());
      num_tokens += told.tokens.size();
    }
    EXPECT_EQ(num_tokens, 12U);
  }
}

// The runner checks that no sweep is under way when it finishes; other ranks would wait for that for ever.
TEST(BatchDriver, WhatRowsAndCallbacksThrowComesWhenTheRunnerHasFinished) {
  for (const char* where : {"row", "token", "end", "sweep"}) {
    SCOPED_TRACE(where);
    ScriptedJob job(2, 1, 3);
    for (int r = 0; r < 12; ++r) job.add(2, r < 6 ? 4 : 9);
    job.runner.leaves_rows = true;
    const std::string fault = where;
    int countdown = fault == "row" ? 20 : 6;  // when some are on their way
    const auto break_at = [&](const char* place) {
      if (fault == place && --countdown == 0) throw UserError(ExitCode::file, "broken", "");
    };
    ListedRows listed(job.rows);
    struct Breaking final : RowSource {
      RowSource& rows;
      std::function<void()> at_row;
      Breaking(RowSource& source, std::function<void()> breaks) : rows(source), at_row(std::move(breaks)) {}
      std::optional<RowRequest> next_row() override {
        at_row();
        return rows.next_row();
      }
      std::optional<std::int64_t> num_left() const override { return rows.num_left(); }
    } source(listed, [&] { break_at("row"); });
    job.stops = [&](RowId, std::int32_t) {
      break_at("token");
      return false;
    };
    job.at_end = [&] { break_at("end"); };
    job.goes_on = [&] {
      break_at("sweep");
      return true;
    };
    EXPECT_THROW(job.run(source), UserError);
    EXPECT_TRUE(job.runner.is_finished());
    EXPECT_EQ(countdown, 0) << "nothing was told or asked for behind the fault";
  }
}

TEST(BatchDriver, ScoresAreOfThePromptAndComeBeforeTheTokens) {
  ScriptedJob job(4, 1);
  job.add(3, 0).score_prompt = true;
  job.add(2, 2);
  job.add(3, 2).score_prompt = true;
  job.add(1, 0).score_prompt = true;  // nothing before its only token
  job.run();
  EXPECT_EQ(job.told[RowId(0)].scores, (std::vector<float>{-101, -102}));
  EXPECT_TRUE(job.told[RowId(0)].tokens.empty());
  EXPECT_TRUE(job.told[RowId(1)].scores.empty());
  EXPECT_EQ(job.told[RowId(1)].tokens, (Ids{1102, 1103}));
  EXPECT_EQ(job.told[RowId(2)].scores, (std::vector<float>{-301, -302}));
  EXPECT_EQ(job.told[RowId(2)].tokens, (Ids{1203, 1204}));
  EXPECT_TRUE(job.told[RowId(3)].scores.empty());
  for (std::int64_t r = 0; r < 4; ++r) EXPECT_EQ(job.told[RowId(r)].ends, std::vector{FinishReason::length});
  EXPECT_EQ(job.runner.sweeps.size(), 2U);
}

TEST(BatchDriver, ARowWithoutNumbersEndsAloneAndIsToldNothingMore) {
  ScriptedJob job(6, 1);
  for (int r = 0; r < 3; ++r) job.add(2, 3);
  for (int r = 3; r < 6; ++r) job.add(3, 1).score_prompt = true;
  job.runner.token = [](RowId row, std::int32_t length) {
    return row == RowId(1) && length == 3 ? -1 : row == RowId(5) && length == 1 ? -1 : 60;
  };
  job.runner.score = [](RowId row, std::int32_t token) {
    if (row == RowId(3)) return -std::numeric_limits<float>::infinity();
    return row == RowId(4) && token == 502 ? std::nanf("") : -1.0F;
  };
  job.run();
  EXPECT_EQ(job.told[RowId(1)].tokens, Ids{60}) << "of its first sweep";
  for (const std::int64_t failed : {1, 3, 4, 5}) {
    EXPECT_EQ(job.told[RowId(failed)].ends, std::vector{FinishReason::not_a_number}) << failed;
    EXPECT_TRUE(job.told[RowId(failed)].scores.empty()) << failed;
  }
  for (const std::int64_t sound : {0, 2}) {
    EXPECT_EQ(job.told[RowId(sound)].tokens, (Ids{60, 60, 60})) << sound;
    EXPECT_EQ(job.told[RowId(sound)].ends, std::vector{FinishReason::length}) << sound;
  }
}

// The runner itself refuses a sweep that was not announced; here is where it was announced and did not come.
TEST(BatchDriver, MoreFollowsUnlessNothingIsLeft) {
  ScriptedJob stopped(1, 1);
  stopped.add(2, 9);
  stopped.eos_tokens = {1003};
  stopped.run();
  ASSERT_EQ(stopped.runner.sweeps.size(), 2U);
  EXPECT_TRUE(stopped.runner.sweeps.back().more_follow) << "nobody knew that the row would stop";

  ScriptedJob waiting(1, 1);
  waiting.add(2, 1);
  waiting.add(2, 1);
  waiting.run();
  ASSERT_EQ(waiting.runner.sweeps.size(), 2U);
  EXPECT_TRUE(waiting.runner.sweeps[0].more_follow) << "the row is at its end, but another waits";
  EXPECT_FALSE(waiting.runner.sweeps[1].more_follow);

  ScriptedJob two_groups(1, 1, 2);
  two_groups.add(2, 1);
  two_groups.add(2, 2);
  two_groups.run();
  ASSERT_EQ(two_groups.runner.sweeps.size(), 3U);
  EXPECT_TRUE(two_groups.runner.sweeps[1].more_follow);
  EXPECT_FALSE(two_groups.runner.sweeps[2].more_follow) << "the other group is idle";
}

TEST(BatchDriver, SweepsAreCountedByWhatTheyBring) {
  ScriptedJob job(2, 1);
  job.add(3, 4);
  job.add(5, 2);
  job.add(4, 1);  // reads its prompt while the first row decodes
  const PhaseTimes times = job.run();
  EXPECT_EQ(job.rows_of_sweeps().size(), 4U);
  EXPECT_EQ(times.prefill.num_sweeps, 1);
  EXPECT_EQ(times.prefill.num_rows, 2);
  EXPECT_EQ(times.prefill.num_prompt_tokens, 8);
  EXPECT_EQ(times.prefill.num_decode_tokens, 0);
  EXPECT_EQ(times.decode.num_sweeps, 2);
  EXPECT_EQ(times.decode.num_rows, 3);
  EXPECT_EQ(times.decode.num_prompt_tokens, 0);
  EXPECT_EQ(times.decode.num_decode_tokens, 3);
  EXPECT_EQ(times.mixed.num_sweeps, 1);
  EXPECT_EQ(times.mixed.num_prompt_tokens, 4);
  EXPECT_EQ(times.mixed.num_decode_tokens, 1);
  EXPECT_GE(std::min({times.prefill.seconds, times.decode.seconds, times.mixed.seconds}), 0);
  EXPECT_EQ(job.cache_use.num_positions, 128);
  EXPECT_EQ(job.cache_use.most_held, 16) << "two rows of a grain each";
}

TEST(BatchDriver, ALimitOfTokensHoldsFromTheNextSweepOn) {
  ScriptedJob job(2, 1);
  job.limits.num_tokens = 100;
  for (int r = 0; r < 4; ++r) job.add(40, 2);
  std::int32_t limit = 100;
  job.new_limit = [&] { return std::exchange(limit, 12); };
  job.run();
  const std::vector<SweepWork>& sweeps = job.runner.sweeps;
  ASSERT_GT(sweeps.size(), 2U);
  EXPECT_EQ(sweeps[0].micro_batches[0].num_tokens(), 80);
  for (std::size_t s = 1; s < sweeps.size(); ++s) EXPECT_LE(sweeps[s].micro_batches[0].num_tokens(), 12);
  for (const auto& [row, told] : job.told) EXPECT_EQ(told.tokens.size(), 2U);
}

TEST(BatchDriver, ALimitThatNobodyHasRoomForIsRefused) {
  for (const std::int32_t limit : {1, 101}) {
    ScriptedJob job(2, 1);
    job.limits.num_tokens = 100;
    job.add(40, 2);
    job.new_limit = [&] { return limit; };
    EXPECT_THROW(job.run(), InternalError);
  }
}

struct Spoilt {
  const char* how;
  std::function<void(std::vector<SampledTokens>&)> spoil;
};

std::ostream& operator<<(std::ostream& out, const Spoilt& one) { return out << one.how; }

class SpoiltOutputs : public testing::TestWithParam<Spoilt> {};

TEST_P(SpoiltOutputs, AreRefused) {
  ScriptedJob job(2, 2);
  for (int r = 0; r < 4; ++r) job.add(3, 2).score_prompt = true;
  job.runner.spoil = GetParam().spoil;
  EXPECT_THROW(job.run(), InternalError);
  EXPECT_FALSE(job.runner.is_finished());
}

INSTANTIATE_TEST_SUITE_P(
    Cases, SpoiltOutputs,
    testing::Values(Spoilt{"OfAnotherSweep", [](auto& sampled) { ++sampled[0].sweep; }},
                    Spoilt{"OfAnotherMicroBatch", [](auto& sampled) { std::swap(sampled[0], sampled[1]); }},
                    Spoilt{"AMicroBatchTooFew", [](auto& sampled) { sampled.pop_back(); }},
                    Spoilt{"AMicroBatchTooMany", [](auto& sampled) { sampled.push_back(sampled.back()); }},
                    Spoilt{"ATokenTooFew", [](auto& sampled) { sampled[1].tokens.pop_back(); }},
                    Spoilt{"ATokenTooMany", [](auto& sampled) { sampled[1].tokens.push_back(5); }},
                    Spoilt{"NoTokens", [](auto& sampled) { sampled[0].tokens.clear(); }},
                    Spoilt{"NoScores", [](auto& sampled) { sampled[0].scores.clear(); }}),
    [](const auto& info) { return info.param.how; });

// What becomes of a row depends on nothing but itself, however rows are dealt to blocks and groups and cut into chunks.
// The runner watches over places, the cache, positions, budgets, slots and what was announced.
TEST(BatchDriver, EveryRowOfARandomJobEndsOnceAsItWouldAlone) {
  std::mt19937 random(20);
  const auto below = [&](std::int32_t limit) { return static_cast<std::int32_t>(random() % limit); };
  for (int round = 0; round < 300; ++round) {
    const std::int32_t rows_of_slot = 1 + below(4);
    ScriptedJob job(rows_of_slot, 1 + below(4), 1 + below(4), below(4) == 0 ? BlockRule::fixed : BlockRule::rolling);
    if (job.shape.rule == BlockRule::rolling) {
      // Of bands, one of which holds the longest row and not many more.
      for (CacheSpace& space : job.limits.slots) space.bands = {8 * (1 + below(2)), 16 + 8 * below(4), 8};
      job.limits.num_tokens = rows_of_slot + (below(2) == 0 ? below(3) : below(40));
      if (below(2) == 0)
        job.new_limit = [&, most = job.limits.num_tokens] {  // the runner is told, too
          return job.limits.num_tokens = rows_of_slot + below(1 + most - rows_of_slot);
        };
    }
    job.eos_tokens = {3};
    job.runner.token = [](RowId row, std::int32_t length) {
      const auto hash = static_cast<std::int32_t>((row.value * 31 + length * 17) % 23);
      return hash == 22 ? -1 : hash;
    };
    job.stops = [](RowId, std::int32_t token) { return token == 9; };
    const std::int32_t num_rows = below(40);
    for (std::int32_t r = 0; r < num_rows; ++r) {
      const bool is_scored = below(3) == 0;
      RowRequest& row = job.add(static_cast<std::size_t>(1 + below(6)), is_scored ? below(5) : 1 + below(8));
      row.score_prompt = is_scored;
      row.stop_at_eos = below(2) == 0;
    }
    job.run();
    ASSERT_EQ(job.told.size(), static_cast<std::size_t>(num_rows));
    for (const RowRequest& row : job.rows) {
      ScriptedJob alone(1, 1);
      alone.eos_tokens = job.eos_tokens;
      alone.runner.token = job.runner.token;
      alone.stops = job.stops;
      alone.rows = {row};
      alone.run();
      const Told& told = job.told[row.id];
      const Told& expected = alone.told[row.id];
      ASSERT_EQ(told.ends.size(), 1U) << "round " << round << ", row " << row.id.value;
      ASSERT_EQ(told.ends, expected.ends);
      ASSERT_EQ(told.tokens, expected.tokens);
      // A row without numbers hears of as many chunks as came before.
      const bool has_numbers = told.ends.front() != FinishReason::not_a_number;
      ASSERT_TRUE(!has_numbers || told.scores == expected.scores) << "round " << round << ", row " << row.id.value;
    }
    ASSERT_FALSE(HasFailure()) << "round " << round;
  }
}

}  // namespace
}  // namespace flexgen::test
