// What a report says of memory is what was taken: within 2 % of what was asked for, and wrong where a taker is.
#include "run/job_report.hpp"

#include <gtest/gtest.h>

#include <array>

#include "base/bytes.hpp"
#include "comm/in_process.hpp"
#include "model/slice_description.hpp"
#include "tests/support/scratch_place.hpp"
#include "tests/support/tiny_model.hpp"
#include "weights/weight_source.hpp"

namespace flexgen::test {
namespace {

StageConfig stage_of(const std::array<double, 6>& percent, const ScratchPlace& scratch) {
  StageConfig config;
  const ModelSpec model = tiny_model(4);
  config.plan.bounds = {0, 4, true, true};
  Policy policy;
  policy.micro_batch_size = 8;
  policy.num_micro_batches = 2;
  policy.placement = make_placement(percent);
  config.plan.input =
      plan_input(model, describe_slice(model, config.plan.bounds, true, Device{}), policy, {24, 8, 31, 16});
  config.budgets = {GiB, GiB, GiB};
  config.plan.memory = plan_memory(config.plan.input, config.budgets);
  config.source = make_random_source();
  config.offload_dir = scratch.path();
  return config;
}

TierReports report_of(StageConfig config) {
  Stage stage(std::move(config));
  InProcessWorld world(1);
  return gather_report(stage, 1, *world.communicator(0)).ranks.front().tiers;
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
    const TierReports tiers = report_of(stage_of(percent, scratch));
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
  StageConfig config = stage_of({50, 50, 0, 100, 100, 0}, scratch);
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

}  // namespace
}  // namespace flexgen::test
