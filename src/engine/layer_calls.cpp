#include "engine/layer_calls.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.hpp"

namespace flexgen {
namespace {

// Whole rows lie on a tier (plan_memory); gpu rows come first.
std::int32_t first_host_row(const CacheLayout& cache, double percent) {
  std::int64_t gpu_rows = 0;  // where most rows are: layers may differ by one
  for (const CacheSplit& split : cache.splits) gpu_rows = std::max(gpu_rows, split.gpu_units / cache.shape.heads);
  const std::int64_t candidates = cache.shape.rows - gpu_rows;
  const auto here = static_cast<std::int64_t>(std::lround(static_cast<double>(candidates) * percent / 100));
  return static_cast<std::int32_t>(cache.shape.rows - here);
}

}  // namespace

LayerCalls::LayerCalls(const StagePlan& plan)
    : plan_(plan), first_host_row_(first_host_row(plan.memory.cache, plan.input.policy.host_attention_percent)) {}

AttentionRows LayerCalls::split(std::span<const CacheRow> rows) const {
  if (first_host_row_ >= plan_.memory.cache.shape.rows) return {rows, {}};
  const auto decodes = [](const CacheRow& row) { return row.count == 1 && row.start > 0; };
  const auto first = std::ranges::find_if(rows, [&](const CacheRow& row) { return row.cache_row >= first_host_row_; });
  if (first == rows.end() || !std::ranges::all_of(rows, decodes)) return {rows, {}};
  const auto num_device = static_cast<std::size_t>(first - rows.begin());
  return {rows.first(num_device), rows.subspan(num_device)};
}

LayerCall LayerCalls::whole(const MicroBatch& batch, const BatchChunk& chunk, const LayerOperands& operands) const {
  LayerCall call;
  call.weights = operands.weights;
  call.rests = operands.rests;
  call.batch = chunk.batch;
  call.hidden = contiguous_view(operands.hidden, batch.num_tokens, plan_.input.model.hidden, plan_.input.policy.dtype)
                    .row_range(chunk.first_token, chunk.batch.num_tokens);
  call.token_ids = chunk.token_ids;
  call.positions = chunk.positions;
  call.cache = operands.cache;
  if (call.cache.heads) {
    call.cache.heads += static_cast<std::ptrdiff_t>(chunk.first_row) * call.cache.num_heads;
    call.cache.host_heads += static_cast<std::ptrdiff_t>(chunk.first_row) * call.cache.num_heads;
  }
  call.attention_sparsity = static_cast<float>(plan_.input.policy.attention_sparsity);
  return call;
}

LayerCall LayerCalls::half(const MicroBatch& batch, const LayerOperands& operands, const MatrixView& projected,
                           const MatrixView& attended) const {
  FLEXGEN_CHECK(batch.chunks.size() == 1, "a decode step is one call");
  LayerCall call = whole(batch, batch.chunks.front(), operands);
  call.batch.num_rows = call.batch.num_tokens = static_cast<std::int32_t>(split(batch.rows).device.size());
  call.projected = projected;
  call.attended = attended;
  return call;
}

AttentionCall LayerCalls::on_host(std::span<const CacheRow> rows, HostArrays& arrays, const MatrixView& projected,
                                  const MatrixView& attended) const {
  const AttentionSpec& spec = plan_.input.model.attention;
  arrays.offset.resize(rows.size() + 1);
  std::iota(arrays.offset.begin(), arrays.offset.end(), 0);
  arrays.start.resize(rows.size());
  arrays.heads.resize(rows.size() * static_cast<std::size_t>(spec.kv_heads));

  AttentionCall call;
  call.batch.num_rows = call.batch.num_tokens = static_cast<std::int32_t>(rows.size());
  call.batch.max_count = 1;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    arrays.start[r] = rows[r].start;
    call.batch.max_length = std::max(call.batch.max_length, rows[r].start + 1);
  }
  call.batch.host_token_offset = call.batch.token_offset = arrays.offset.data();
  call.batch.host_start = call.batch.start = arrays.start.data();
  call.cache = {arrays.heads.data(), arrays.heads.data(), spec.kv_heads, spec.head_size,
                plan_.input.policy.cache_format};
  call.projected = projected;
  call.attended = attended;
  call.sparsity = static_cast<float>(plan_.input.policy.attention_sparsity);
  return call;
}

}  // namespace flexgen
