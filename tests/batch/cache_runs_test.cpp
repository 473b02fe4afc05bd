// Free runs of a slot's cache: taken where they fit best, whole again when they come back, never across bands.
#include "batch/cache_runs.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/error.hpp"

namespace flexgen::test {
namespace {

TEST(CacheRuns, AreOfWholeGrains) {
  CacheRuns runs(CacheSpace{{40}});
  EXPECT_EQ(runs.take(1), (CacheRun{0, 8}));
  EXPECT_EQ(runs.take(0), (CacheRun{8, 8})) << "a sequence holds at least one grain";
  EXPECT_EQ(runs.take(9), (CacheRun{16, 16}));
  EXPECT_EQ(runs.num_free(), 8);
  EXPECT_EQ(runs.take(9), std::nullopt);
  EXPECT_EQ(runs.take(8), (CacheRun{32, 8}));
  EXPECT_EQ(runs.longest_free(), 0);
}

TEST(CacheRuns, TheShortestThatIsLongEnoughIsTaken) {
  CacheRuns runs(CacheSpace{{96}});
  const CacheRun a = *runs.take(24), gap = *runs.take(16), b = *runs.take(8), other_gap = *runs.take(16);
  const CacheRun c = *runs.take(8);
  runs.give_back(gap);
  runs.give_back(other_gap);  // free: 24 .. 40, 48 .. 64, 72 .. 96
  EXPECT_EQ(runs.longest_free(), 24);
  EXPECT_EQ(runs.take(16), gap) << "the lowest of two that fit alike";
  EXPECT_EQ(runs.take(24), (CacheRun{72, 24}));
  EXPECT_EQ(runs.take(8), (CacheRun{48, 8}));
  EXPECT_EQ(runs.num_free(), 8);
  for (const CacheRun& run : {a, b, c}) runs.give_back(run);
  EXPECT_EQ(runs.num_free(), 48);
}

TEST(CacheRuns, GivenBackTheyAreOneWithTheirNeighboursOfTheBand) {
  CacheRuns runs(CacheSpace{{24, 16}});
  std::vector<CacheRun> all;
  while (const std::optional<CacheRun> run = runs.take(8)) all.push_back(*run);
  ASSERT_EQ(all.size(), 5U);
  for (const CacheRun& run : all) runs.give_back(run);
  EXPECT_EQ(runs.num_free(), 40);
  EXPECT_EQ(runs.longest_free(), 24) << "bands stay apart";
  EXPECT_EQ(runs.take(25), std::nullopt);
  EXPECT_EQ(runs.take(24), (CacheRun{0, 24}));
  EXPECT_EQ(runs.take(16), (CacheRun{24, 16}));
}

// What is taken of each band stays a like part of it, filling and draining: each is another resource's work.
TEST(CacheRuns, BandsFillAlike) {
  CacheRuns runs(CacheSpace{{160, 40, 80}});
  std::vector<CacheRun> all;
  while (const std::optional<CacheRun> run = runs.take(8)) {
    all.push_back(*run);
    for (const CacheRun& band : runs.bands())
      EXPECT_NEAR(static_cast<double>(runs.num_free(band)) / band.length, 1 - static_cast<double>(all.size()) / 35,
                  8.0 / 40)
          << all.size();
  }
  ASSERT_EQ(all.size(), 35U);
  EXPECT_EQ(all[0].begin, 0);
  EXPECT_EQ(all[1].begin, 160);
  EXPECT_EQ(all[2].begin, 200);
}

TEST(CacheRuns, ABandWithoutRoomIsPassedOver) {
  CacheRuns runs(CacheSpace{{32, 16}});
  EXPECT_EQ(runs.take(8), (CacheRun{0, 8}));
  EXPECT_EQ(runs.take(24), (CacheRun{8, 24})) << "the emptier band is too short";
}

TEST(CacheRuns, AnyFreeRunCanBeTaken) {
  CacheRuns runs(CacheSpace{{32, 32}});
  runs.take(CacheRun{8, 16});
  EXPECT_EQ(runs.num_free(), 48);
  EXPECT_THROW(runs.take(CacheRun{16, 8}), InternalError) << "held";
  EXPECT_THROW(runs.take(CacheRun{24, 16}), InternalError) << "of two bands";
  EXPECT_THROW(runs.take(CacheRun{0, 16}), InternalError) << "held in part";
  runs.take(CacheRun{0, 8});
  EXPECT_EQ(runs.longest_free(), 32);
}

TEST(CacheRuns, WhatIsFreeCannotBeGivenBack) {
  CacheRuns runs(CacheSpace{{32}});
  EXPECT_THROW(runs.give_back({0, 8}), InternalError);
  const CacheRun run = *runs.take(16);
  EXPECT_THROW(runs.give_back({8, 16}), InternalError);
  runs.give_back(run);
  EXPECT_THROW(runs.give_back(run), InternalError);
  EXPECT_THROW(CacheRuns(CacheSpace{{12}}), InternalError);
}

TEST(CacheRuns, RandomOnesNeverOverlap) {
  std::mt19937 random(4);
  const CacheSpace space{{160, 8, 320}};
  for (int round = 0; round < 50; ++round) {
    CacheRuns runs(space);
    std::vector<int> owner(488, -1);
    std::vector<CacheRun> held;
    for (int step = 0; step < 200; ++step) {
      if (!held.empty() && random() % 2 == 0) {
        std::swap(held[random() % held.size()], held.back());
        for (int p = held.back().begin; p < held.back().end(); ++p) owner[static_cast<std::size_t>(p)] = -1;
        runs.give_back(held.back());
        held.pop_back();
      } else if (const auto wanted = static_cast<std::int32_t>(1 + random() % 90); wanted <= runs.longest_free()) {
        const std::optional<CacheRun> run = runs.take(wanted);
        ASSERT_TRUE(run) << "what is longest free can be taken";
        ASSERT_TRUE(run->end() <= 160 || (run->begin >= 160 && run->end() <= 168) || run->begin >= 168);
        for (int p = run->begin; p < run->end(); ++p) {
          ASSERT_EQ(owner[static_cast<std::size_t>(p)], -1);
          owner[static_cast<std::size_t>(p)] = step;
        }
        held.push_back(*run);
      }
      ASSERT_EQ(runs.num_free(), std::ranges::count(owner, -1));
    }
    for (const CacheRun& run : held) runs.give_back(run);
    ASSERT_EQ(runs.longest_free(), 320);
    ASSERT_EQ(runs.take(160), (CacheRun{0, 160}));
  }
}

}  // namespace
}  // namespace flexgen::test
