#include "engine/layer_calls.hpp"

#include <algorithm>
#include <numeric>
#include <span>

#include "base/error.hpp"

namespace flexgen {
LayerCalls::LayerCalls(const StagePlan& plan) : plan_(plan) {
  const CacheLayout& cache = plan.memory.cache;
  for (std::int32_t slot = 0; slot < cache.num_slots; ++slot)
    first_host_position_.push_back(cache.first_host_position(slot));
}

AttentionRows LayerCalls::split(std::int32_t slot, std::span<const CacheRow> rows) const {
  const std::int32_t first = first_host_position_[static_cast<std::size_t>(slot)];
  const auto is_hosts = [&](const CacheRow& row) { return row.count == 1 && row.start > 0 && row.begin >= first; };
  std::size_t num_device = rows.size();
  while (num_device > 0 && is_hosts(rows[num_device - 1])) --num_device;
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
    call.cache.shared = chunk.shared;
    call.cache.shared.host_heads = operands.cache.shared.host_heads;
    call.cache.shared.heads = operands.cache.shared.heads;
  }
  call.attention_sparsity = static_cast<float>(plan_.input.policy.attention_sparsity);
  return call;
}

LayerCall LayerCalls::half(const MicroBatch& batch, const LayerOperands& operands, const MatrixView& projected,
                           const MatrixView& attended) const {
  const BatchChunk& chunk = batch.chunks.back();
  FLEXGEN_CHECK(chunk.batch.max_count == 1, "rows that the host attends for are called with prompts");
  LayerCall call = whole(batch, chunk, operands);
  call.batch.num_rows = call.batch.num_tokens =
      static_cast<std::int32_t>(split(batch.slot, batch.rows).device.size()) - chunk.first_row;
  const std::span spans(chunk.shared.host_spans, static_cast<std::size_t>(call.cache.shared.num_spans));
  call.cache.shared.num_spans = static_cast<std::int32_t>(
      std::ranges::count_if(spans, [&](const SharedSpan& span) { return span.first_row < call.batch.num_rows; }));
  call.projected = projected;
  call.attended = attended;
  return call;
}

AttentionCall LayerCalls::on_host(std::span<const CacheRow> rows, const SharedRuns& shared, HostArrays& arrays,
                                  const MatrixView& projected, const MatrixView& attended) const {
  const AttentionSpec& spec = plan_.input.model.attention;
  arrays.offset.resize(rows.size() + 1);
  std::iota(arrays.offset.begin(), arrays.offset.end(), 0);
  arrays.start.resize(rows.size());
  const std::size_t num_own = rows.size() * static_cast<std::size_t>(spec.kv_heads);
  arrays.heads.resize(num_own + shared.runs.size() * static_cast<std::size_t>(spec.kv_heads));

  AttentionCall call;
  call.batch.num_rows = call.batch.num_tokens = static_cast<std::int32_t>(rows.size());
  call.batch.max_count = 1;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    arrays.start[r] = rows[r].own_begin + rows[r].start;
    call.batch.max_length = std::max(call.batch.max_length, arrays.start[r] + 1);
  }
  call.batch.host_token_offset = call.batch.token_offset = arrays.offset.data();
  call.batch.host_start = call.batch.start = arrays.start.data();
  call.cache = {arrays.heads.data(), arrays.heads.data(), spec.kv_heads, spec.head_size,
                plan_.input.policy.cache_format};
  if (shared.any()) {
    for (const CacheRow& row : rows) arrays.own_begin.push_back(row.own_begin);
    call.cache.shared.num_spans = static_cast<std::int32_t>(shared.spans.size());
    call.cache.shared.host_spans = shared.spans.data();
    call.cache.shared.host_own_begin = arrays.own_begin.data();
    call.cache.shared.host_heads = arrays.heads.data() + num_own;
  }
  call.projected = projected;
  call.attended = attended;
  call.sparsity = static_cast<float>(plan_.input.policy.attention_sparsity);
  return call;
}

}  // namespace flexgen
