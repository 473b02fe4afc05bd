// The plan as named pieces: each stands once, and the tiers' demands are sums over them.
#include "policy/memory_pieces.hpp"

#include <gtest/gtest.h>

#include <set>

#include "base/error.hpp"
#include "tests/policy/plan_cases.hpp"

namespace flexgen::test {
namespace {

constexpr std::array<TierKind, num_tiers> all_tiers{TierKind::gpu, TierKind::dram, TierKind::ssd};

TEST(PlannedPiece, RoundsEveryPartUp) {
  const PlannedPiece even{100, 3, 64};
  EXPECT_EQ(even.content_bytes(), 300U);
  EXPECT_EQ(even.stride_bytes(), 128U);
  EXPECT_EQ(even.taken_bytes(), 384U);
  const PlannedPiece uneven{1000, 1, 1, 24};
  EXPECT_EQ(uneven.content_bytes(), 1000U);
  EXPECT_EQ(uneven.taken_bytes(), 1024U);
  EXPECT_EQ(PlannedPiece{}.taken_bytes(), 0U);
}

TEST(MemoryPieces, AreNamedOncePerTier) {
  MemoryPieces pieces;
  pieces.add(Piece::cache_home, TierKind::gpu, {100, 1, 64});
  EXPECT_NO_THROW(pieces.add(Piece::cache_home, TierKind::dram, {50, 1}));
  EXPECT_THROW(pieces.add(Piece::cache_home, TierKind::gpu, {1, 1}), InternalError);
  EXPECT_EQ(pieces.at(Piece::cache_home, TierKind::gpu).bytes, 100U);
  pieces.add(Piece::hidden_home, TierKind::gpu, {0, 7, 64});
  EXPECT_FALSE(pieces.has(Piece::hidden_home, TierKind::gpu)) << "an empty piece is none";
}

TEST(MemoryPieces, AddUpByTierAndUse) {
  MemoryPieces pieces;
  pieces.add(Piece::cache_home, TierKind::gpu, {100, 1, 64});
  pieces.add(Piece::weights_home, TierKind::gpu, {1000, 1, 1, 24});
  pieces.add(Piece::workspace, TierKind::gpu, {60, 1, 64});
  pieces.add(Piece::hidden_slots, TierKind::gpu, {10, 3, 64});
  pieces.add(Piece::cache_home, TierKind::ssd, {5, 1});
  EXPECT_EQ(pieces.taken_bytes(TierKind::gpu), 128U + 1024 + 64 + 192);
  EXPECT_EQ(pieces.taken_bytes(TierKind::gpu, MemoryUse::cache), 100U);
  EXPECT_EQ(pieces.taken_bytes(TierKind::gpu, MemoryUse::weights), 1000U);
  EXPECT_EQ(pieces.taken_bytes(TierKind::gpu, MemoryUse::workspace), 60U);
  EXPECT_EQ(pieces.taken_bytes(TierKind::gpu, MemoryUse::staging), 28U + 24 + 4 + 192) << "slots and all rounding";
  EXPECT_EQ(pieces.taken_bytes(TierKind::ssd), 5U);
  EXPECT_EQ(pieces.taken_bytes(TierKind::dram), 0U);
}

TEST(MemoryPieces, HaveNamesOfTheirOwn) {
  std::set<std::string_view> names;
  for (std::size_t p = 0; p < num_pieces; ++p) {
    EXPECT_FALSE(piece_name(static_cast<Piece>(p)).empty());
    EXPECT_TRUE(names.insert(piece_name(static_cast<Piece>(p))).second) << piece_name(static_cast<Piece>(p));
  }
  EXPECT_EQ(use_of(Piece::hidden_home), MemoryUse::hidden);
  EXPECT_EQ(use_of(Piece::workspace), MemoryUse::workspace);
  EXPECT_EQ(use_of(Piece::sent_hidden), MemoryUse::staging);
}

// Every kind of plan: resident and streamed, on a GPU and on the host, scoring, attended by the host, one of several.
std::vector<PlanInput> all_kinds() {
  std::vector<PlanInput> inputs;
  for (const std::array<double, 6>& percent :
       {std::array<double, 6>{100, 0, 100, 0, 100, 0}, std::array<double, 6>{20, 80, 0, 100, 0, 100},
        std::array<double, 6>{0, 0, 0, 0, 0, 0}, std::array<double, 6>{33.3, 33.3, 12.5, 50, 70, 10}})
    for (const bool on_gpu : {false, true})
      for (const bool scores : {false, true}) {
        PlanInput input = plan_for("opt-125m", 5, 3, percent);
        input.on_gpu = on_gpu;
        input.job.scores = scores;
        if (scores == on_gpu) input.job.sampling = {true, scores ? 4 : 0, 9};
        input.links = {true, true, true};
        if (percent[2] + percent[3] == 100) input.policy.host_attention_percent = 50;
        inputs.push_back(input);
      }
  return inputs;
}

TEST(MemoryPlan, DemandsAreSumsOverThePieces) {
  for (const PlanInput& input : all_kinds()) {
    SCOPED_TRACE(to_flags(input.policy));
    const MemoryPlan plan = plan_memory(input);
    for (const TierKind tier : all_tiers) {
      std::uint64_t sum = 0;
      for (std::size_t p = 0; p < num_pieces; ++p) sum += plan.pieces.at(static_cast<Piece>(p), tier).taken_bytes();
      EXPECT_EQ(plan.tier(tier).total(), sum) << tier_name(tier);
    }
    EXPECT_EQ(plan.gpu.total() % piece_alignment, 0U) << "pieces of the arena follow each other";
    EXPECT_EQ(plan.ssd.total() % piece_alignment, 0U) << "a disk has whole blocks";
  }
}

TEST(MemoryPlan, AGpuHasItsTwinsInDramAndTheHostHasNone) {
  for (const PlanInput& input : all_kinds()) {
    SCOPED_TRACE(to_flags(input.policy));
    const MemoryPieces& pieces = plan_memory(input).pieces;
    for (const Piece piece : {Piece::index_arrays, Piece::cache_tables}) {
      EXPECT_GT(pieces.at(piece, TierKind::gpu).content_bytes(), 0U);
      EXPECT_EQ(pieces.at(piece, TierKind::dram).content_bytes(),
                input.on_gpu ? pieces.at(piece, TierKind::gpu).content_bytes() : 0);
    }
    const TierKind results = input.on_gpu ? TierKind::dram : TierKind::gpu;
    EXPECT_EQ(pieces.at(Piece::result_tokens, results).content_bytes(), 4ULL * 3 * 5 * (input.job.scores ? 512 : 1));
    const bool has_scores = input.job.scores || input.job.sampling.is_wanted;
    EXPECT_EQ(pieces.has(Piece::scores, TierKind::gpu), has_scores);
    EXPECT_EQ(pieces.has(Piece::result_scores, results), has_scores);
    const std::uint64_t tokens = pieces.at(Piece::result_tokens, results).content_bytes();
    const auto max_top = static_cast<std::uint64_t>(input.job.sampling.max_top);
    EXPECT_EQ(pieces.at(Piece::alternatives, TierKind::gpu).content_bytes(), 2 * max_top * tokens);
    EXPECT_EQ(pieces.at(Piece::result_alternatives, results).content_bytes(), 2 * max_top * tokens);
    EXPECT_EQ(pieces.has(Piece::received_hidden, TierKind::dram), input.links.receives);
  }
}

TEST(MemoryPlan, LinksTakeTwoMicroBatchesEachWhereTheyCrossTheHost) {
  PlanInput input = plan_for("opt-125m", 5, 3, {100, 0, 100, 0, 100, 0});
  input.on_gpu = true;
  const std::uint64_t alone = plan_memory(input).dram.total();
  const auto more = [&](const HiddenLinks& links) {
    input.links = links;
    return plan_memory(input).dram.total() - alone;
  };
  const std::uint64_t micro_batch = 5ULL * 512 * 768 * 2;
  EXPECT_EQ(more({true, false, true}), 2 * micro_batch);
  EXPECT_EQ(more({true, true, true}), 4 * micro_batch);
  EXPECT_EQ(more({true, true, false}), 0U) << "from GPU to GPU";
  input.policy.overlap = false;
  EXPECT_EQ(more({true, true, true}), 2 * micro_batch) << "nothing travels beside the computation";
}

// An index of layers and a search over policies: the description of the slice is made once.
TEST(MemoryPlan, ScratchFollowsThePolicy) {
  PlanInput input = plan_for("opt-125m", 4, 1, {100, 0, 100, 0, 100, 0});
  const std::uint64_t half = plan_memory(input).pieces.at(Piece::workspace, TierKind::gpu).bytes;
  input.policy.dtype = DType::float32;
  EXPECT_GT(plan_memory(input).pieces.at(Piece::workspace, TierKind::gpu).bytes, half);
}

}  // namespace
}  // namespace flexgen::test
