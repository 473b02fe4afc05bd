// Who attends for which rows, and what either's call is handed.
#include "engine/layer_calls.hpp"

#include <gtest/gtest.h>

#include "base/error.hpp"

namespace flexgen::test {
namespace {

constexpr std::int32_t num_heads = 3, hidden = 12;

constexpr std::int32_t row_positions = 40;

// Of eight rows the first two lie on the gpu tier.
StagePlan plan_of(double host_attention_percent) {
  StagePlan plan;
  plan.input.model.hidden = hidden;
  plan.input.model.attention = AttentionSpec::of_heads(num_heads, hidden);
  plan.input.policy.micro_batch_size = 8;
  plan.input.policy.attention_sparsity = 0.5;
  plan.input.policy.host_attention_percent = host_attention_percent;
  plan.input.policy.placement.cache = {25, 75};
  plan.input.job.max_row_tokens = row_positions;
  plan.memory.cache =
      plan_cache({8, num_heads, hidden / num_heads, DType::float32}, 2, cache_bands(plan.input.policy, plan.input.job));
  return plan;
}

std::vector<CacheRow> rows_of(std::initializer_list<std::int32_t> cache_rows, std::int32_t start, std::int32_t count) {
  std::vector<CacheRow> rows;
  for (const std::int32_t row : cache_rows) rows.push_back({row, row * row_positions, start + row, count});
  return rows;
}

std::size_t num_host_rows(double percent, const std::vector<CacheRow>& rows) {
  const StagePlan plan = plan_of(percent);
  const AttentionRows split = LayerCalls(plan).split(0, rows);
  EXPECT_EQ(split.device.data(), rows.data());
  EXPECT_EQ(split.device.size() + split.host.size(), rows.size());
  for (const CacheRow& row : split.host) EXPECT_EQ(row.count, 1);
  return split.host.size();
}

TEST(LayerCalls, TheHostAttendsForAShareOfTheRowsOutsideTheGpuTier) {
  const std::vector<CacheRow> all = rows_of({0, 1, 2, 3, 4, 5, 6, 7}, 5, 1);
  EXPECT_EQ(num_host_rows(0, all), 0U);
  EXPECT_EQ(num_host_rows(50, all), 3U);
  EXPECT_EQ(num_host_rows(100, all), 6U);
  EXPECT_EQ(num_host_rows(100, rows_of({0, 3, 7}, 5, 1)), 2U) << "rows that are there";
  EXPECT_EQ(num_host_rows(100, rows_of({0, 1}, 5, 1)), 0U) << "all on the gpu tier";
}

TEST(LayerCalls, PromptsAreTheDevices) {
  std::vector<CacheRow> rows = rows_of({6, 0, 3, 7}, 5, 1);
  rows[0].count = 2;
  EXPECT_EQ(num_host_rows(100, rows), 2U) << "one row brings a part of its prompt, the others decode";
  rows[0] = {6, 6 * row_positions, 0, 1};
  EXPECT_EQ(num_host_rows(100, rows), 2U) << "a prompt of one token";
  rows.resize(2);
  EXPECT_EQ(num_host_rows(100, rows), 0U);
}

// A micro-batch of two chunks: one row of two tokens, two rows of three tokens.
struct TwoChunks {
  TwoChunks() {
    batch.num_tokens = 5;
    batch.chunks.resize(2);
    batch.chunks[0].batch.num_rows = 1;
    batch.chunks[0].batch.num_tokens = 2;
    batch.chunks[1].batch.num_rows = 2;
    batch.chunks[1].batch.num_tokens = 3;
    batch.chunks[1].first_row = 1;
    batch.chunks[1].first_token = 2;
  }
  MicroBatch batch;
};

TEST(LayerCalls, AChunkHasItsPartOfHiddenStatesAndCache) {
  const StagePlan plan = plan_of(0);
  const TwoChunks two;
  std::vector<float> states(5 * hidden);
  std::vector<KvHead> heads(3 * num_heads), host_heads(3 * num_heads);
  LayerOperands operands;
  operands.hidden = reinterpret_cast<std::byte*>(states.data());
  operands.cache = {heads.data(), host_heads.data(), num_heads, hidden / num_heads, {}};
  const LayerCall call = LayerCalls(plan).whole(two.batch, two.batch.chunks[1], operands);
  EXPECT_EQ(call.hidden.data, reinterpret_cast<std::byte*>(states.data() + 2 * hidden));
  EXPECT_EQ(call.hidden.rows, 3);
  EXPECT_EQ(call.hidden.cols, hidden);
  EXPECT_EQ(call.batch.num_rows, 2);
  EXPECT_EQ(call.cache.heads, heads.data() + num_heads);
  EXPECT_EQ(call.cache.host_heads, host_heads.data() + num_heads);
  EXPECT_EQ(call.attention_sparsity, 0.5F);
  operands.cache = {};
  EXPECT_EQ(LayerCalls(plan).whole(two.batch, two.batch.chunks[1], operands).cache.heads, nullptr) << "has none";
}

TEST(LayerCalls, AHalfHasTheDevicesRowsAlone) {
  const StagePlan plan = plan_of(100);
  MicroBatch batch;
  batch.rows = rows_of({0, 1, 4, 6, 7}, 5, 1);
  batch.num_tokens = 5;
  batch.chunks.resize(1);
  batch.chunks[0].batch.num_rows = batch.chunks[0].batch.num_tokens = 5;
  batch.chunks[0].batch.max_count = 1;
  std::vector<float> states(5 * hidden), projected(5 * 3 * hidden), attended(5 * hidden);
  const auto view = [](std::vector<float>& of, std::int64_t cols) {
    return contiguous_view(reinterpret_cast<std::byte*>(of.data()), 5, cols, DType::float32);
  };
  LayerOperands operands;
  operands.hidden = reinterpret_cast<std::byte*>(states.data());
  const LayerCalls calls(plan);
  const LayerCall call = calls.half(batch, operands, view(projected, 3 * hidden), view(attended, hidden));
  EXPECT_EQ(call.batch.num_rows, 2);
  EXPECT_EQ(call.batch.num_tokens, 2);
  EXPECT_EQ(call.hidden.rows, 5) << "what is linear is computed for all";
  EXPECT_EQ(call.projected.data, reinterpret_cast<std::byte*>(projected.data()));
  EXPECT_EQ(call.attended.data, reinterpret_cast<std::byte*>(attended.data()));
  batch.chunks.resize(2);
  EXPECT_THROW(calls.half(batch, operands, {}, {}), InternalError);
}

// Positions count from the row's beginning, what it keeps from where it ceases to share.
TEST(LayerCalls, WhatRowsShareComesBehindTheirHeads) {
  const StagePlan plan = plan_of(100);
  std::vector<CacheRow> rows = rows_of({4, 6, 7}, 5, 1);
  rows[1].own_begin = rows[2].own_begin = 64;
  const SharedRuns shared{{{8, 2 * row_positions, 64, 0}}, {{1, 2, 0, 64, 0}}};
  HostArrays arrays;
  const AttentionCall call = LayerCalls(plan).on_host(rows, shared, arrays, {}, {});
  EXPECT_EQ(arrays.start, (std::vector<std::int32_t>{9, 64 + 11, 64 + 12}));
  EXPECT_EQ(call.batch.max_length, 64 + 13);
  EXPECT_EQ(arrays.heads.size(), 4U * num_heads);
  EXPECT_EQ(call.cache.shared.host_heads, arrays.heads.data() + 3 * num_heads);
  EXPECT_EQ(call.cache.shared.num_spans, 1);
  EXPECT_EQ(call.cache.shared.host_spans, shared.spans.data());
  EXPECT_EQ(arrays.own_begin, (std::vector<std::int32_t>{0, 64, 64}));
}

TEST(LayerCalls, AHalfHasTheSpansOfTheDevicesRows) {
  const StagePlan plan = plan_of(100);
  MicroBatch batch;
  batch.rows = rows_of({0, 1, 4, 6}, 5, 1);
  batch.num_tokens = 4;
  BatchChunk& chunk = batch.chunks.emplace_back();
  chunk.batch.num_rows = chunk.batch.num_tokens = 4;
  chunk.batch.max_count = 1;
  const std::vector<SharedSpan> spans{{1, 1, 0, 64, 0}, {2, 2, 0, 64, 1}};
  chunk.shared.num_spans = 2;
  chunk.shared.host_spans = spans.data();
  std::vector<KvHead> heads(4 * num_heads);
  LayerOperands operands;
  operands.cache = {heads.data(), heads.data(), num_heads, hidden / num_heads, {}};
  const LayerCalls calls(plan);
  EXPECT_EQ(calls.whole(batch, chunk, operands).cache.shared.num_spans, 2);
  EXPECT_EQ(calls.half(batch, operands, {}, {}).cache.shared.num_spans, 1);
}

TEST(LayerCalls, TheHostsCallHasOneTokenOfEachOfItsRows) {
  const StagePlan plan = plan_of(100);
  const std::vector<CacheRow> rows = rows_of({4, 6, 7}, 5, 1);
  HostArrays arrays;
  std::vector<float> projected(3 * 3 * hidden), attended(3 * hidden);
  const MatrixView q = contiguous_view(reinterpret_cast<std::byte*>(projected.data()), 3, 3 * hidden, DType::float32);
  const MatrixView out = contiguous_view(reinterpret_cast<std::byte*>(attended.data()), 3, hidden, DType::float32);
  const AttentionCall call = LayerCalls(plan).on_host(rows, {}, arrays, q, out);
  EXPECT_EQ(arrays.offset, (std::vector<std::int32_t>{0, 1, 2, 3}));
  EXPECT_EQ(arrays.start, (std::vector<std::int32_t>{9, 11, 12}));
  EXPECT_EQ(arrays.heads.size(), 3U * num_heads);
  EXPECT_EQ(call.batch.num_rows, 3);
  EXPECT_EQ(call.batch.num_tokens, 3);
  EXPECT_EQ(call.batch.max_count, 1);
  EXPECT_EQ(call.batch.max_length, 13);
  EXPECT_EQ(call.batch.start, arrays.start.data());
  EXPECT_EQ(call.batch.host_token_offset, arrays.offset.data());
  EXPECT_EQ(call.cache.heads, arrays.heads.data());
  EXPECT_EQ(call.cache.num_heads, num_heads);
  EXPECT_EQ(call.cache.shared.num_spans, 0);
  EXPECT_EQ(call.projected.data, q.data);
  EXPECT_EQ(call.attended.data, out.data);
  EXPECT_EQ(call.sparsity, 0.5F);
}

}  // namespace
}  // namespace flexgen::test
