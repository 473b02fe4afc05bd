// First calls on a GPU, which load kernels and choose algorithms, before any that counts.
#include <algorithm>

#include "engine/slice_executor.hpp"

namespace flexgen {

void SliceExecutor::warm_up() {
  if (!context_.device.is_cuda()) return;
  const std::int32_t longest_prompt = std::max(1, plan_.input.job.max_prompt_tokens);
  warm_up_shape(0, longest_prompt);
  warm_up_shape(longest_prompt, 1);
}

void SliceExecutor::warm_up_shape(std::int32_t start, std::int32_t count) {
  SweepWork work;
  MicroBatchWork rows;
  for (std::int32_t r = 0; r < plan_.input.policy.micro_batch_size; ++r)
    rows.rows.push_back({.row = RowId(r),
                         .cache_row = r,
                         .start = start,
                         .tokens = std::vector<std::int32_t>(static_cast<std::size_t>(count), 0)});
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
  span_.reset();
  end_sweep();
  compute_.synchronize();
}

void SliceExecutor::warm_up_layer(LayerId layer) {
  const MicroBatchId first(0);
  weights_.take_any(layer);
  cache_.take_any();
  const LayerOperands operands = operands_of(layer, first, hidden_.any_memory(batch(first)));
  if (!cache_.has(layer) || calls_.split(batch(first).rows).host.empty()) {
    compute_chunks(layer, first, operands);
    return;
  }
  const LayerCall call = half_call(first, operands);
  layer_of(layer).project(context_, call);
  layer_of(layer).finish(context_, call);
}

}  // namespace flexgen
