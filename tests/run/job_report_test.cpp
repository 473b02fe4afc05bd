// What a report says of memory is what was taken: within 2 % of what was asked for, and wrong where a taker is.
#include "run/job_report.hpp"

#include <gtest/gtest.h>

#include <array>

#include "base/bytes.hpp"
#include "comm/in_process.hpp"
#include "tests/support/scratch_place.hpp"
#include "tests/support/tiny_stage.hpp"

namespace flexgen::test {
namespace {

TierReports report_of(StageConfig config) {
  Stage stage(std::move(config));
  InProcessWorld world(1);
  const std::unique_ptr<Communicator> alone = world.communicator(0);
  return gather_report(rank_report(stage, *alone), 1, *alone).ranks.front().tiers;
}

void expect_within_two_percent(std::uint64_t achieved, std::uint64_t requested, std::uint64_t of_class) {
  EXPECT_NEAR(static_cast<double>(achieved), static_cast<double>(requested), 0.02 * static_cast<double>(of_class));
}

TEST(JobReport, MemoryIsAchievedAsRequested) {
  for (const std::array<double, 6>& percent :
       {std::array<double, 6>{100, 0, 100, 0, 100, 0}, std::array<double, 6>{20, 80, 0, 100, 0, 100},
        std::array<double, 6>{0, 0, 0, 0, 0, 0}, std::array<double, 6>{30, 40, 50, 25, 60, 20}}) {
    SCOPED_TRACE(to_flags({{}, {make_placement(percent)}}));
    const ScratchPlace scratch;
    const TierReports tiers = report_of(tiny_stage(percent, scratch));
    const std::array<const TierReport*, 3> all{&tiers.gpu, &tiers.dram, &tiers.ssd};
    ClassBytes whole;
    for (const TierReport* tier : all) whole += tier->achieved;
    EXPECT_GT(whole.weights, 0U);
    EXPECT_GT(whole.cache, 0U);
    EXPECT_GT(whole.hidden, 0U);
    for (const TierReport* tier : all) {
      expect_within_two_percent(tier->achieved.weights, tier->requested.weights, whole.weights);
      expect_within_two_percent(tier->achieved.cache, tier->requested.cache, whole.cache);
      expect_within_two_percent(tier->achieved.hidden, tier->requested.hidden, whole.hidden);
      EXPECT_EQ(tier->peak_bytes, tier->planned_bytes);
      EXPECT_GE(tier->peak_bytes, tier->achieved.total());
      EXPECT_EQ(tier->capacity_bytes, GiB);
    }
  }
}

// The stores take what the plan's pieces say: one that says twice as much as was asked for is a taker gone wrong.
TEST(JobReport, ATakerThatTakesTwiceItsPieceShows) {
  const ScratchPlace scratch;
  StageConfig config = tiny_stage({50, 50, 0, 100, 100, 0}, scratch);
  const MemoryPieces planned = config.plan.memory.pieces;
  MemoryPieces broken;
  for (std::size_t p = 0; p < num_pieces; ++p)
    for (const TierKind tier : {TierKind::gpu, TierKind::dram, TierKind::ssd}) {
      PlannedPiece piece = planned.at(static_cast<Piece>(p), tier);
      if (static_cast<Piece>(p) == Piece::cache_home) piece.bytes *= 2;
      broken.add(static_cast<Piece>(p), tier, piece);
    }
  config.plan.memory.pieces = broken;
  const TierReports tiers = report_of(std::move(config));
  EXPECT_GT(tiers.dram.requested.cache, 0U);
  EXPECT_EQ(tiers.dram.achieved.cache, 2 * tiers.dram.requested.cache);
  EXPECT_EQ(tiers.dram.peak_bytes, tiers.dram.planned_bytes + tiers.dram.requested.cache);
  EXPECT_EQ(tiers.gpu.peak_bytes, tiers.gpu.planned_bytes) << "the other tiers are as they were";
}

RankReport pass_of(std::uint64_t peak_bytes, std::uint64_t moved_bytes, double seconds) {
  RankReport pass;
  pass.tiers.gpu = {100, {1, 2, 3}, {peak_bytes, 2, 3}, peak_bytes, peak_bytes};
  pass.resources["compute"] = {seconds, moved_bytes, 1, seconds};
  pass.resources_by_phase.decode["compute"] = pass.resources["compute"];
  pass.load_seconds = pass.sweep_seconds = seconds;
  pass.waits = {seconds, 2 * seconds, 3 * seconds, 4 * seconds};
  pass.peak_host_bytes = peak_bytes;
  return pass;
}

TEST(JobReport, PassesAddUpAndTheMostMemoryCounts) {
  RankReport sum = pass_of(70, 5, 2);
  add_pass(sum, pass_of(50, 6, 1));
  add_pass(sum, pass_of(90, 7, 3));
  EXPECT_EQ(sum.tiers.gpu.peak_bytes, 90U);
  EXPECT_EQ(sum.tiers.gpu.achieved.weights, 90U);
  EXPECT_EQ(sum.tiers.gpu.requested.hidden, 3U);
  EXPECT_EQ(sum.tiers.gpu.capacity_bytes, 100U);
  EXPECT_EQ(sum.peak_host_bytes, 90U);
  EXPECT_EQ(sum.load_seconds, 6);
  EXPECT_EQ(sum.waits.load_seconds, 6);
  EXPECT_EQ(sum.waits.receive_seconds, 12);
  EXPECT_EQ(sum.waits.send_seconds, 18);
  EXPECT_EQ(sum.waits.turn_seconds, 24);
  EXPECT_EQ(sum.resources["compute"].bytes, 18U);
  InProcessWorld world(1);
  const Report report = gather_report(sum, 12, *world.communicator(0));
  EXPECT_EQ(report.ranks.front().busy_fraction, 0.5);

  SweepsReport sweeps;
  SweepsReport pass;
  pass.decode = {3, 1.5, 30, 0, 30};
  pass.cache_positions = 64;
  pass.saved_prompt_tokens = 8;
  add_pass(sweeps, pass);
  pass.cache_positions = 32;
  add_pass(sweeps, pass);
  EXPECT_EQ(sweeps.decode.sweeps, 6U);
  EXPECT_EQ(sweeps.decode.seconds, 3);
  EXPECT_EQ(sweeps.rows_per_sweep(), 10);
  EXPECT_EQ(sweeps.cache_positions, 64U);
  EXPECT_EQ(sweeps.saved_prompt_tokens, 16U);
}

}  // namespace
}  // namespace flexgen::test
