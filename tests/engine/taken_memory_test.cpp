// What a run takes is what its plan names, byte for byte, wherever things lie; and a taker that takes more shows.
#include <gtest/gtest.h>

#include <mutex>

#include "engine/stage.hpp"
#include "ops/host_scratch.hpp"
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

// Threads hold no more than the plans of the stages so far say, and none has wanted more than its part. Beside a
// stage's own there may be threads of the loops that still hold what an earlier stage reserved.
class HostScratchWatch {
 public:
  void look_at(const Stage& stage) {
    const PlannedPiece& planned = stage.plan().memory.pieces.at(Piece::host_scratch, TierKind::gpu);
    most_planned_bytes_ = std::max(most_planned_bytes_, planned.taken_bytes());
    EXPECT_GT(planned.bytes, 0U);
    EXPECT_GE(host_scratch_bytes(), planned.bytes) << "whoever computes has its part";
    EXPECT_EQ(host_scratch_bytes_beyond_reservation(), beyond_before_);
  }
  void expect_held_as_planned(std::uint64_t num_stages) const {
    EXPECT_LE(host_scratch_bytes(), num_stages * most_planned_bytes_);
  }

 private:
  std::uint64_t beyond_before_ = host_scratch_bytes_beyond_reservation();
  std::uint64_t most_planned_bytes_ = 0;
};

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
         job.policy.rule = BlockRule::fixed;
         job.policy.micro_batch_size = 128;  // calls of many tokens
       }},
      {"scores", [](InProcessJob& job) { job.scores = true; }},
      {"sampled",
       [](InProcessJob& job) {
         TokenRules rules;
         rules.sampling.temperature = 1;
         rules.sampling.repetition_penalty = 2;
         rules.sampling.num_logprobs = rules.num_prompt_top = 3;
         job.rules.assign(job.prompts.size(), std::make_shared<const TokenRules>(rules));
       }},
      {"scores and samples",
       [](InProcessJob& job) {
         TokenRules rules;
         rules.num_prompt_top = 2;
         job.rules.assign(job.prompts.size(), std::make_shared<const TokenRules>(rules));
         job.scores = true;
       }},
      {"sparse", [](InProcessJob& job) { job.policy.attention_sparsity = 0.5; }},
      {"shares", [](InProcessJob& job) { job.policy.num_prefixes = 4; }},
      {"half", [](InProcessJob& job) { job.policy.dtype = DType::float16; }},
  };
  HostScratchWatch scratch_watch;
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
        scratch_watch.look_at(stage);
        EXPECT_EQ(stage.plan().memory.pieces.has(Piece::plain_layer, TierKind::gpu), job.wants_plain_layer.has_value());
      };
      run_in_process(job);
      EXPECT_EQ(num_stages, job.num_ranks);
      scratch_watch.expect_held_as_planned(static_cast<std::uint64_t>(num_stages));
    }
}

TEST(TakenMemory, OfAttentionOnTheHostToo) {
  const ScratchPlace scratch;
  InProcessJob job = small_job({20, 80, 30, 70, 0, 100}, scratch);
  job.policy.host_attention_percent = 100;
  HostScratchWatch scratch_watch;
  job.look_at = [&](const Stage& stage) {
    EXPECT_TRUE(stage.plan().memory.pieces.has(Piece::projected, TierKind::dram));
    expect_taken_as_planned(stage);
    scratch_watch.look_at(stage);
  };
  run_in_process(job);
}

// The plan as it was, but that one piece on one tier is `times` as large as the sums say.
void scale_piece(StagePlan& plan, Piece broken, TierKind where, double times) {
  MemoryPieces pieces;
  for (std::size_t p = 0; p < num_pieces; ++p)
    for (const TierKind tier : all_tiers) {
      PlannedPiece planned = plan.memory.pieces.at(static_cast<Piece>(p), tier);
      if (static_cast<Piece>(p) == broken && tier == where)
        planned.bytes = static_cast<std::uint64_t>(static_cast<double>(planned.bytes) * times);
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
    job.change_plan = [&](StagePlan& plan) { scale_piece(plan, broken.piece, broken.tier, 2); };
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

TEST(TakenMemory, ShowsAThreadThatWantsMoreScratchThanPlanned) {
  const ScratchPlace scratch;
  InProcessJob job = small_job({100, 0, 100, 0, 100, 0}, scratch);
  job.change_plan = [](StagePlan& plan) { scale_piece(plan, Piece::host_scratch, TierKind::gpu, 1.0 / 64); };
  const std::uint64_t before = host_scratch_bytes_beyond_reservation();
  run_in_process(job);
  EXPECT_GT(host_scratch_bytes_beyond_reservation(), before);
}

}  // namespace
}  // namespace flexgen::test
