// Layers whose attention is done on the host: computed in two halves, with the attention of other micro-batches, and
// their computation, between them.
#include "engine/slice_executor.hpp"

namespace flexgen {

LayerCall SliceExecutor::half_call(MicroBatchId k, const LayerOperands& operands) const {
  const std::int32_t num_rows = batch(k).chunks.back().batch.num_rows;
  return calls_.half(batch(k), operands, host_attention_->projected(k.value, num_rows),
                     host_attention_->attended(k.value, num_rows));
}

// Prompts of the micro-batch are done with first. The rest of those that decode is done when the micro-batch comes to
// its next layer: meanwhile the device computes others.
void SliceExecutor::compute_half(LayerId layer, MicroBatchId k, const LayerOperands& operands) {
  const std::span<const BatchChunk> chunks(batch(k).chunks);
  compute_chunks(layer, k, operands, chunks.first(chunks.size() - 1));
  std::optional<HalfDone>& half = half_done_[k.index()];
  half.emplace();
  half->layer = layer;
  half->weights.assign(operands.weights.begin(), operands.weights.end());
  half->slot = weights_.slot(layer);
  half->call = half_call(k, operands);
  half->call.weights = half->weights;
  layer_of(layer).project(context_, half->call);
  time_.computing.reset();
  computed_ = compute_.record();
  half->attended =
      host_attention_->start(cache_.index(layer), batch(k), k.value, computed_, cache_.stored(layer, batch(k).slot));
  if (is_last(layer) || !plan_.input.policy.overlap) finish_half_done(k);
}

void SliceExecutor::finish_half_done(MicroBatchId k) {
  std::optional<HalfDone>& half = half_done_[k.index()];
  if (!half) return;
  const Layer& what = layer_of(half->layer);
  time_.computing.reset();
  compute_.wait(half->attended);
  {
    const StreamSpan span(compute_, Resource::compute, what.description().name);
    what.finish(context_, half->call);
  }
  computed_ = compute_.record();
  if (half->slot) half->slot->free = computed_;
  half.reset();
  end_call();
}

}  // namespace flexgen
