// Layers whose attention is done on the host: computed in two halves, with the attention of other micro-batches, and
// their computation, between them.
#include "base/error.hpp"
#include "engine/slice_executor.hpp"

namespace flexgen {

// Those whose attention the computing device does.
std::span<const CacheRow> SliceExecutor::device_rows(std::span<const CacheRow> all) const {
  if (!host_attention_ || !host_attention_->takes(all)) return all;
  return all.first(static_cast<std::size_t>(host_attention_->num_device_rows(all)));
}

LayerCall SliceExecutor::half_call(MicroBatchId k, std::byte* hidden, const KvView& cache) {
  const MicroBatch& rows = batch(k);
  FLEXGEN_CHECK(rows.chunks.size() == 1, "a decode step is one call");
  LayerCall call = chunk_call(rows.chunks.front(), k, hidden, cache);
  call.batch.num_rows = call.batch.num_tokens = host_attention_->num_device_rows(rows.rows);
  call.projected = host_attention_->projected(k.value, rows.num_tokens);
  call.attended = host_attention_->attended(k.value, rows.num_tokens);
  return call;
}

// The rest is done when the micro-batch comes to its next layer: meanwhile the device computes others.
void SliceExecutor::compute_half(const Layer& layer, LayerId id, MicroBatchId k, const KvView& cache, Slot* weights) {
  std::optional<HalfDone>& half = half_done_[k.index()];
  half.emplace();
  half->layer = id;
  half->weights = weight_views_;
  half->slot = k.index() + 1 == batches_->size() ? weights : nullptr;
  half->call = half_call(k, hidden_.data, cache);
  half->call.weights = half->weights;
  layer.project(context_, half->call);
  span_.reset();
  computed_ = compute_.record();
  half->attended =
      host_attention_->start(cache_index_[id.index()], batch(k), k.value, computed_, cache_stored(id, batch(k).slot));
  if (is_last(id) || !plan_.input.policy.overlap) finish_half_done(k);
}

void SliceExecutor::finish_half_done(MicroBatchId k) {
  std::optional<HalfDone>& half = half_done_[k.index()];
  if (!half) return;
  span_.reset();
  compute_.wait(half->attended);
  {
    const StreamSpan span(compute_, Resource::compute, layers_[half->layer.index()]->description().name);
    layers_[half->layer.index()]->finish(context_, half->call);
  }
  computed_ = compute_.record();
  if (half->slot) half->slot->free = computed_;
  half.reset();
  end_call(compute_);
}

}  // namespace flexgen
