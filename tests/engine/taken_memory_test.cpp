// What a run takes is what its plan names, byte for byte, wherever things lie; and a taker that takes more shows.
#include <gtest/gtest.h>

#include <mutex>

#include "engine/stage.hpp"
#include "tests/support/in_process_job.hpp"
#include "tests/support/scratch_place.hpp"
#include "tests/support/tiny_model.hpp"
#include "weights/weight_source.hpp"

namespace flexgen::test {
namespace {

constexpr std::array<TierKind, num_tiers> all_tiers{TierKind::gpu, TierKind::dram, TierKind::ssd};
constexpr std::array<MemoryUse, num_memory_uses> all_uses{MemoryUse::weights,   MemoryUse::cache,
                                                          MemoryUse::hidden,    MemoryUse::staging,
                                                          MemoryUse::workspace, MemoryUse::unclaimed};

InProcessJob small_job(const std::array<double, 6>& percent, const ScratchPlace& scratch) {
  InProcessJob job;
  job.model = tiny_model(3);
  job.policy.micro_batch_size = 3;
  job.policy.num_micro_batches = 2;
  job.policy.placement = make_placement(percent);
  job.prompts = {{1, 2, 3}, {4, 5}, {6}, {7, 8, 9, 10, 11}, {12}, {13, 14}, {15}};
  job.new_tokens = 3;
  job.offload_dir = scratch.path();
  job.keep_logits = false;  // those are beside the plan
  job.make_source = [](int) { return make_random_source(); };
  return job;
}

void expect_taken_as_planned(const Stage& stage) {
  const MemoryPlan& plan = stage.plan().memory;
  for (const TierKind tier : all_tiers) {
    const TierBudget& taken = stage.budget(tier);
    for (const MemoryUse use : all_uses)
      EXPECT_EQ(taken.used_bytes(use), plan.pieces.taken_bytes(tier, use))
          << memory_use_name(use) << " on " << tier_name(tier);
    EXPECT_EQ(taken.peak_bytes(), plan.tier(tier).total()) << tier_name(tier);
  }
}

struct Variant {
  const char* name;
  std::function<void(InProcessJob&)> change;
};

TEST(TakenMemory, IsWhatThePlanNames) {
  const std::vector<Variant> variants{
      {"plain", [](InProcessJob&) {}},
      {"two ranks", [](InProcessJob& job) { job.num_ranks = 2; }},
      {"whole layers", [](InProcessJob& job) { job.policy.separate_layers = false; }},
      {"compressed",
       [](InProcessJob& job) {
         job.policy.weight_format = job.policy.cache_format = QuantFormat{4, 32};
       }},
      {"dequantised at once",
       [](InProcessJob& job) {
         job.policy.weight_format = {4, 32};
         job.wants_plain_layer = true;
         job.policy.micro_batch_size = 128;  // calls of many tokens
       }},
      {"scores", [](InProcessJob& job) { job.scores = true; }},
  };
  for (const std::array<double, 6>& percent :
       {std::array<double, 6>{100, 0, 100, 0, 100, 0}, std::array<double, 6>{20, 80, 0, 100, 0, 100},
        std::array<double, 6>{0, 50, 0, 50, 0, 50}, std::array<double, 6>{0, 0, 0, 0, 0, 0},
        std::array<double, 6>{33, 34, 50, 20, 70, 10}})
    for (const Variant& variant : variants) {
      const ScratchPlace scratch;
      InProcessJob job = small_job(percent, scratch);
      variant.change(job);
      SCOPED_TRACE(std::string(variant.name) + " " + to_flags(job.policy));
      int num_stages = 0;
      job.look_at = [&](const Stage& stage) {
        ++num_stages;
        expect_taken_as_planned(stage);
        EXPECT_EQ(stage.plan().memory.pieces.has(Piece::plain_layer, TierKind::gpu), job.wants_plain_layer.has_value());
      };
      run_in_process(job);
      EXPECT_EQ(num_stages, job.num_ranks);
    }
}

TEST(TakenMemory, OfAttentionOnTheHostToo) {
  const ScratchPlace scratch;
  InProcessJob job = small_job({20, 80, 30, 70, 0, 100}, scratch);
  job.policy.host_attention_percent = 100;
  job.look_at = [](const Stage& stage) {
    EXPECT_TRUE(stage.plan().memory.pieces.has(Piece::projected, TierKind::dram));
    expect_taken_as_planned(stage);
  };
  run_in_process(job);
}

// The plan as it was, but that one piece on one tier is twice as large as the sums say.
void double_piece(StagePlan& plan, Piece broken, TierKind where) {
  MemoryPieces pieces;
  for (std::size_t p = 0; p < num_pieces; ++p)
    for (const TierKind tier : all_tiers) {
      PlannedPiece planned = plan.memory.pieces.at(static_cast<Piece>(p), tier);
      if (static_cast<Piece>(p) == broken && tier == where) planned.bytes *= 2;
      pieces.add(static_cast<Piece>(p), tier, planned);
    }
  plan.memory.pieces = pieces;
}

TEST(TakenMemory, ShowsATakerThatTakesTwiceItsPiece) {
  struct Broken {
    Piece piece;
    TierKind tier;
    MemoryUse use;
  };
  for (const Broken& broken : {Broken{Piece::cache_home, TierKind::gpu, MemoryUse::cache},
                               Broken{Piece::cache_home, TierKind::dram, MemoryUse::cache},
                               Broken{Piece::cache_home, TierKind::ssd, MemoryUse::cache},
                               Broken{Piece::hidden_home, TierKind::dram, MemoryUse::hidden},
                               Broken{Piece::weight_slots, TierKind::gpu, MemoryUse::staging}}) {
    SCOPED_TRACE(std::string(piece_name(broken.piece)) + " on " + std::string(tier_name(broken.tier)));
    const ScratchPlace scratch;
    InProcessJob job = small_job({33, 34, 40, 30, 40, 30}, scratch);
    job.change_plan = [&](StagePlan& plan) { double_piece(plan, broken.piece, broken.tier); };
    job.look_at = [&](const Stage& stage) {
      const TierBudget& taken = stage.budget(broken.tier);
      const TierDemand& planned = stage.plan().memory.tier(broken.tier);
      EXPECT_GT(taken.peak_bytes(), planned.total());
      const auto use = static_cast<std::size_t>(broken.use);
      if (broken.use != MemoryUse::staging) {
        EXPECT_EQ(taken.peak_bytes(broken.use), 2 * planned.home[use]);
      }
    };
    run_in_process(job);
  }
}

}  // namespace
}  // namespace flexgen::test
