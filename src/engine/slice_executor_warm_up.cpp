// First calls on a GPU, which load kernels and choose algorithms, before any that counts.
#include <algorithm>

#include "engine/slice_executor.hpp"

namespace flexgen {
namespace {

// Where rows of the job's largest length can lie in the first slot, in every kind of band.
std::vector<std::int32_t> begins_of_long_rows(const CacheLayout& cache, std::int32_t longest) {
  std::vector<std::int32_t> begins;
  std::int32_t position = 0;
  for (const CacheBand& band : cache.bands.front()) {
    if (band.num_positions >= longest) begins.push_back(position);
    position += band.num_positions;
  }
  return begins;
}

// All of them with a common beginning, whose place is the slot's first such.
MicroBatchWork sharing(MicroBatchWork work, std::int32_t place) {
  const SharedRun run{place, work.rows.front().cache_begin, prefix_grain};
  for (RowWork& row : work.rows) row.shared = {run};
  return work;
}

}  // namespace

void SliceExecutor::warm_up() {
  if (!context_.device.is_cuda()) return;
  const BlockShape& block = plan_.input.policy;
  const std::int32_t tokens = micro_batch_tokens(block, plan_.input.job);
  const std::int32_t prompt = std::clamp(plan_.input.job.max_prompt_tokens, 1, std::min(tokens, call_tokens));
  warm_up_rows(rows_of_shape(std::min(block.micro_batch_size, tokens / prompt), 0, prompt));
  if (plan_.input.job.max_row_tokens > prompt) warm_up_rows(rows_of_shape(block.micro_batch_size, prompt, 1));
  const std::int32_t own = plan_.input.job.max_row_tokens - prefix_grain;  // of a row that shares a grain
  if (block.num_prefixes > 0 && own > 0) {
    warm_up_rows(sharing(rows_of_shape(1, prefix_grain, std::min(own, 2)), block.micro_batch_size));
    warm_up_rows(sharing(rows_of_shape(block.micro_batch_size, prefix_grain, 1), block.micro_batch_size));
  }
  if (!plan_.input.job.sampling.is_wanted) return;
  MicroBatchWork sampled = rows_of_shape(1, 0, 1);
  sampled.choices.push_back({.num_prompt_top = 0, .wants_score = true});
  warm_up_rows(sampled);
}

MicroBatchWork SliceExecutor::rows_of_shape(std::int32_t num_rows, std::int32_t start, std::int32_t count) const {
  const std::vector<std::int32_t> begins = begins_of_long_rows(plan_.memory.cache, start + count);
  MicroBatchWork rows;
  for (std::int32_t r = 0; r < num_rows; ++r)
    rows.rows.push_back(
        {.row = RowId(r),
         .cache_row = r,
         .cache_begin = begins[static_cast<std::size_t>(r) * begins.size() / static_cast<std::size_t>(num_rows)],
         .start = start,
         .tokens = std::vector<std::int32_t>(static_cast<std::size_t>(count), 0)});
  return rows;
}

void SliceExecutor::warm_up_rows(const MicroBatchWork& rows) {
  SweepWork work;
  // A whole block, as whether a layer is made plain depends on it; the first micro-batch is computed.
  work.micro_batches.assign(static_cast<std::size_t>(plan_.input.policy.num_micro_batches), rows);
  batches_ = index_arrays_.prepare(work, compute_);
  weights_.begin_sweep(batches_);
  std::vector<LayerKind> seen;
  for (std::size_t j = 0; j < layers_.size(); ++j) {
    const LayerKind kind = layers_[j]->description().kind;
    if (std::ranges::find(seen, kind) != seen.end()) continue;
    seen.push_back(kind);
    warm_up_layer(LayerId(static_cast<std::int32_t>(j)));
  }
  time_.computing.reset();
  end_sweep();
  compute_.synchronize();
}

void SliceExecutor::warm_up_layer(LayerId layer) {
  const MicroBatchId first(0);
  weights_.take_any(layer);
  cache_.take_any();
  const LayerOperands operands = operands_of(layer, first, hidden_.any_memory(batch(first)));
  if (!cache_.has(layer) || calls_.split(batch(first).slot, batch(first).rows).host.empty()) {
    compute_chunks(layer, first, operands, batch(first).chunks);
    return;
  }
  const LayerCall call = half_call(first, operands);
  layer_of(layer).project(context_, call);
  layer_of(layer).finish(context_, call);
}

}  // namespace flexgen
