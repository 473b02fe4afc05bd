#include "policy/memory_plan.hpp"

#include <gtest/gtest.h>

#include "tests/policy/plan_cases.hpp"

namespace flexgen::test {
namespace {

using test::plan_for;

constexpr std::uint64_t plenty = 1ULL << 50;

std::size_t at(TensorClass tensor_class) { return static_cast<std::size_t>(tensor_class); }

TEST(MemoryPlan, TiersAddUpToTheWhole) {
  const std::vector<std::array<double, 6>> placements{
      {100, 0, 100, 0, 100, 0}, {20, 80, 0, 100, 0, 100}, {0, 0, 0, 0, 0, 0}, {33.3, 33.3, 12.5, 50, 70, 10}};
  for (const char* name : {"demo-model", "opt-125m", "opt-1.3b", "opt-30b"})
    for (const std::array<double, 6>& percent : placements) {
      SCOPED_TRACE(name);
      const PlanInput input = plan_for(name, 8, 3, percent);
      const MemoryPlan plan = plan_memory(input);
      const auto whole = [&](TensorClass c) {
        return plan.gpu.home[at(c)] + plan.dram.home[at(c)] + plan.ssd.home[at(c)];
      };
      const auto& model = input.model;
      EXPECT_NEAR(static_cast<double>(whole(TensorClass::weights)) / (2.0 * static_cast<double>(num_parameters(model))),
                  1, 0.002);
      EXPECT_EQ(whole(TensorClass::cache), 2ULL * 2 * static_cast<std::uint64_t>(model.hidden) * 544 * 8 * 3 *
                                               static_cast<std::uint64_t>(model.num_layers));
      EXPECT_EQ(whole(TensorClass::hidden), 8ULL * 512 * static_cast<std::uint64_t>(model.hidden) * 2 * 3);
      for (const TensorClass c : {TensorClass::weights, TensorClass::cache, TensorClass::hidden}) {
        const Share& share = input.policy.placement.of(c);
        const auto total = static_cast<double>(whole(c));
        EXPECT_NEAR(static_cast<double>(plan.gpu.home[at(c)]) / total, share.gpu(), 0.02);
        EXPECT_NEAR(static_cast<double>(plan.dram.home[at(c)]) / total, share.dram(), 0.02);
        EXPECT_NEAR(static_cast<double>(plan.ssd.home[at(c)]) / total, share.ssd(), 0.02);
        EXPECT_NEAR(static_cast<double>(plan.gpu.requested[at(c)]), share.gpu() * total, 2);
      }
      EXPECT_EQ(plan.gpu.total(),
                plan.gpu.home[0] + plan.gpu.home[1] + plan.gpu.home[2] + plan.gpu.staging + plan.gpu.workspace);
      EXPECT_EQ(plan.max_tokens, 8 * 512);
      EXPECT_EQ(plan.gpu.workspace, plan.pieces.at(Piece::workspace, TierKind::gpu).bytes +
                                        plan.pieces.at(Piece::host_scratch, TierKind::gpu).content_bytes());
      EXPECT_GT(plan.pieces.at(Piece::workspace, TierKind::gpu).bytes, 0U);
    }
}

TEST(MemoryPlan, WhatIsResidentNeedsNoStaging) {
  const MemoryPlan resident = plan_memory(plan_for("opt-1.3b", 4, 2, {100, 0, 100, 0, 100, 0}));
  EXPECT_LT(resident.gpu.staging, 8 * MiB) << "index arrays and tables only";
  EXPECT_EQ(resident.dram.total(), 0U);
  EXPECT_EQ(resident.ssd.total(), 0U);

  const MemoryPlan streamed = plan_memory(plan_for("opt-1.3b", 4, 2, {0, 100, 0, 100, 0, 100}));
  EXPECT_GE(streamed.gpu.staging, 2 * streamed.weights.slot_bytes + 2 * streamed.cache.staged_bytes +
                                      3 * streamed.hidden.place_bytes + 2 * 4 * 2048 * 2)
      << "the last: hidden states of a decode step";
  EXPECT_EQ(streamed.ssd.total(), 0U);
  EXPECT_EQ(streamed.dram.staging, 0U) << "nothing comes from disk";
}

TEST(MemoryPlan, DiskTrafficNeedsHostStagingMoreOfItWithAGpu) {
  PlanInput input = plan_for("opt-1.3b", 4, 2, {0, 50, 50, 50, 100, 0});
  EXPECT_EQ(plan_memory(input).dram.staging, io_bounce_bytes);
  input.on_gpu = true;
  const auto from_disk = [](const MemoryPlan& plan, const DiskPieces& disk) {
    return plan.pieces.at(disk.bounce, TierKind::dram).taken_bytes() +
           plan.pieces.at(disk.halves, TierKind::dram).taken_bytes();
  };
  const std::uint64_t of_a_stream = io_bounce_bytes + 2 * staging_half_bytes;
  const MemoryPlan weights_alone = plan_memory(input);
  EXPECT_EQ(from_disk(weights_alone, disk_pieces_of_weights), of_a_stream);
  EXPECT_EQ(from_disk(weights_alone, disk_pieces_of_cache), 0U);
  input.policy.placement = make_placement({0, 0, 0, 0, 0, 0});
  const MemoryPlan all = plan_memory(input);
  EXPECT_EQ(from_disk(all, disk_pieces_of_weights), of_a_stream);
  EXPECT_EQ(from_disk(all, disk_pieces_of_cache), 2 * of_a_stream);
  EXPECT_EQ(from_disk(all, disk_pieces_of_hidden), 2 * of_a_stream);
  EXPECT_EQ(all.pieces.at(Piece::incomplete_blocks, TierKind::dram).taken_bytes(), 4096ULL * 24 * 2 * 4)
      << "layers, micro-batches, rows";
}

TEST(MemoryPlan, EveryThreadOfTheHostsOpsHasScratch) {
  PlanInput input = plan_for("opt-1.3b", 4, 2, {20, 80, 0, 100, 0, 100});
  input.slice.num_loop_threads = 5;
  const auto planned = [&](TierKind tier) { return plan_memory(input).pieces.at(Piece::host_scratch, tier); };
  const PlannedPiece plain = planned(TierKind::gpu);
  EXPECT_EQ(plain.count, 5U);
  EXPECT_EQ(plain.bytes % piece_alignment, 0U);
  EXPECT_FALSE(plan_memory(input).pieces.has(Piece::host_scratch, TierKind::dram));
  input.policy.weight_format = {4, 64};
  EXPECT_GT(planned(TierKind::gpu).bytes, plain.bytes) << "pieces of matrices are dequantized";
  input.policy.weight_format = {};
  input.policy.host_attention_percent = 50;
  EXPECT_EQ(planned(TierKind::gpu).count, 6U) << "attention on the host has a thread of its own";
  EXPECT_EQ(planned(TierKind::gpu).bytes, plain.bytes);

  input.on_gpu = true;
  EXPECT_FALSE(plan_memory(input).pieces.has(Piece::host_scratch, TierKind::gpu));
  const PlannedPiece attention = planned(TierKind::dram);
  EXPECT_EQ(attention.count, 5U);
  EXPECT_LT(attention.bytes, plain.bytes);
  input.policy.attention_sparsity = 0.1;
  EXPECT_GT(planned(TierKind::dram).bytes, attention.bytes) << "the scores of a whole row";
  const std::uint64_t short_rows = planned(TierKind::dram).bytes;
  input.job.max_row_tokens *= 2;
  EXPECT_GT(planned(TierKind::dram).bytes, short_rows);
  input.policy.host_attention_percent = 0;
  EXPECT_EQ(planned(TierKind::dram).count, 0U) << "the host computes nothing";
}

TEST(MemoryPlan, GroupsMultiplyTheCacheAlone) {
  PlanInput input = plan_for("demo-model", 4, 2, {50, 50, 50, 50, 50, 50});
  const MemoryPlan one = plan_memory(input);
  input.policy.num_groups = 3;
  const MemoryPlan three = plan_memory(input);
  EXPECT_EQ(three.cache.num_slots, 6);
  EXPECT_EQ(three.gpu.home[1] + three.dram.home[1], 3 * (one.gpu.home[1] + one.dram.home[1]));
  EXPECT_EQ(three.gpu.home[0], one.gpu.home[0]);
  EXPECT_EQ(three.gpu.home[2], one.gpu.home[2]);
}

// Of a job whose layers have several calls of many tokens, weights of 4 bits, all on the gpu tier.
PlanInput plain_layer_case() {
  PlanInput input = plan_for("opt-1.3b", 32, 2, {100, 0, 100, 0, 100, 0});
  input.policy.weight_format = {4, 64};
  input.wants_plain_layer = true;
  return input;
}

std::uint64_t plain_bytes_of(const MemoryPlan& plan) { return plan.pieces.at(Piece::plain_layer, TierKind::gpu).bytes; }

TEST(PlainLayer, IsPlannedWhereTheGpuTierHasRoomLeft) {
  const PlanInput input = plain_layer_case();
  const MemoryPlan least = plan_memory(input);
  EXPECT_EQ(plain_bytes_of(least), 0U);
  const MemoryPlan roomy = plan_memory(input, {plenty, plenty, plenty});
  EXPECT_EQ(plain_bytes_of(roomy), 2ULL * 2048 * 8192 * 2) << "both matrices of an mlp in float16";
  const std::uint64_t more = roomy.gpu.staging - least.gpu.staging;
  EXPECT_GE(more, plain_bytes_of(roomy));
  EXPECT_LE(more, plain_bytes_of(roomy) + 4096);
  EXPECT_EQ(roomy.gpu.total(), least.gpu.total() + more);
  EXPECT_EQ(roomy.dram.total(), least.dram.total());

  const std::uint64_t enough = roomy.gpu.total();
  EXPECT_EQ(plan_memory(input, {enough, 0, 0}).gpu.total(), enough) << "to the byte";
}

TEST(PlainLayer, NeverKeepsAPolicyFromFitting) {
  const PlanInput input = plain_layer_case();
  const MemoryPlan least = plan_memory(input);
  const std::uint64_t too_little = plan_memory(input, {plenty, 0, 0}).gpu.total() - 1;
  for (const std::uint64_t gpu : {least.gpu.total(), too_little, least.gpu.total() - 1}) {
    const MemoryPlan plan = plan_memory(input, {gpu, 0, 0});
    EXPECT_EQ(plain_bytes_of(plan), 0U);
    EXPECT_EQ(plan.gpu.total(), least.gpu.total());
    EXPECT_EQ(plan.gpu.staging, least.gpu.staging);
  }
}

TEST(PlainLayer, TakesNothingWhereNoSweepWouldUseIt) {
  const Budgets budgets{plenty, plenty, plenty};
  const auto plain_bytes = [&](auto change) {
    PlanInput input = plain_layer_case();
    change(input);
    return plain_bytes_of(plan_memory(input, budgets));
  };
  EXPECT_GT(plain_bytes([](PlanInput&) {}), 0U);
  EXPECT_EQ(plain_bytes([](PlanInput& in) { in.wants_plain_layer = false; }), 0U);
  EXPECT_EQ(plain_bytes([](PlanInput& in) { in.policy.weight_format = {}; }), 0U);
  EXPECT_EQ(plain_bytes([](PlanInput& in) { in.job.max_prompt_tokens = 8; }), 0U) << "256 tokens a call";
  // One micro-batch: one call of 4,096 tokens, or several.
  EXPECT_EQ(plain_bytes([](PlanInput& in) { in.policy.num_micro_batches = 1, in.policy.micro_batch_size = 8; }), 0U);
  EXPECT_GT(plain_bytes([](PlanInput& in) { in.policy.num_micro_batches = 1; }), 0U);
}

TEST(PlainLayer, HoldsABlockWhereAttentionAndMlpAreOneLayer) {
  PlanInput input = plain_layer_case();
  input.slice.layers = test::layers_of(input.model, false);
  EXPECT_EQ(plain_bytes_of(plan_memory(input, {plenty, plenty, plenty})), 2ULL * 2048 * (2 * 8192 + 4 * 2048));
}

TEST(ExplainMisfit, NamesTheTierAndTheNumbers) {
  const MemoryPlan plan = plan_memory(plan_for("opt-30b", 32, 2, {100, 0, 100, 0, 100, 0}));
  EXPECT_EQ(explain_misfit(plan, {plenty, plenty, plenty}), "");
  EXPECT_EQ(explain_misfit(plan, {plan.gpu.total(), 0, 0}), "") << "to the byte";
  const std::string text = explain_misfit(plan, {15 * GiB, 0, 0});
  EXPECT_EQ(text.find("gpu needs " + format_bytes(plan.gpu.total())), 0U) << text;
  EXPECT_NE(text.find("weights " + format_bytes(plan.gpu.home[0])), std::string::npos) << text;
  EXPECT_NE(text.find("but may use 15.00 GiB"), std::string::npos) << text;
  EXPECT_EQ(text.find("dram"), std::string::npos) << text;
  EXPECT_NE(explain_misfit(plan, {plan.gpu.total() - 1, 0, 0}), "");

  const std::string two = explain_misfit(plan_memory(plan_for("opt-30b", 32, 2, {50, 50, 0, 100, 0, 100})), {1, 1, 1});
  EXPECT_NE(two.find("gpu needs"), std::string::npos);
  EXPECT_NE(two.find("; dram needs"), std::string::npos);
}

}  // namespace
}  // namespace flexgen::test
