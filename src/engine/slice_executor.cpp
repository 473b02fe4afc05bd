#include "engine/slice_executor.hpp"

#include <algorithm>

#include "base/error.hpp"

namespace flexgen {
namespace {

Stream::Mode side_mode(const Policy& policy) {
  return policy.overlap ? Stream::Mode::threaded : Stream::Mode::inline_tasks;
}

}  // namespace

SliceExecutor::SliceExecutor(const StagePlan& plan, const Layers& layers, StageMemory& memory, Neighbours& neighbours,
                             const Device& device, Backend backend, Tracer& tracer, TokenSink token_sink,
                             LogitsSink logits_sink, const std::function<void(std::exception_ptr)>& on_stream_error)
    : plan_(plan),
      layers_(layers),
      memory_(memory),
      neighbours_(neighbours),
      token_sink_(std::move(token_sink)),
      logits_sink_(std::move(logits_sink)),
      compute_("compute", Stream::Mode::inline_tasks, device, &tracer),
      weight_loads_("weight loads", side_mode(plan.input.policy), device, &tracer),
      weight_copies_("weight copies", side_mode(plan.input.policy), device, &tracer),
      cache_loads_("cache loads", side_mode(plan.input.policy), device, &tracer),
      cache_stores_("cache stores", side_mode(plan.input.policy), device, &tracer),
      hidden_loads_("hidden loads", side_mode(plan.input.policy), device, &tracer),
      hidden_stores_("hidden stores", side_mode(plan.input.policy), device, &tracer),
      weight_transfer_(weight_loads_, memory.weights.uses_disk(), staging_half_bytes),
      weight_copier_(weight_copies_, false, 0),
      cache_load_transfer_(cache_loads_, memory.cache.uses_disk(), plan.memory.cache_staging_half_bytes),
      cache_store_transfer_(cache_stores_, memory.cache.uses_disk(), plan.memory.cache_staging_half_bytes),
      hidden_load_transfer_(hidden_loads_, memory.hidden.uses_disk(), staging_half_bytes),
      hidden_store_transfer_(hidden_stores_, memory.hidden.uses_disk(), staging_half_bytes),
      layer_slot_(layers.size(), nullptr),
      plain_layer_(memory.plain_layer, plan.memory.plain_layer_bytes),
      cache_stored_(plan.memory.cache.splits.size()),
      cache_tables_(plan, memory, device),
      rows_to_come_(static_cast<std::size_t>(plan.input.policy.num_groups)),
      hidden_stored_(static_cast<std::size_t>(plan.input.policy.num_micro_batches)),
      max_outputs_(static_cast<std::size_t>(max_outputs(plan.input.policy, plan.input.job))),
      host_tokens_(
          MemoryKind::pinned,
          static_cast<std::uint64_t>(plan.input.policy.num_micro_batches) * max_outputs_ * sizeof(std::int32_t),
          device) {
  if (plan.input.job.scores) host_scores_ = Buffer(MemoryKind::pinned, host_tokens_.size_bytes(), device);
  context_ = {device, compute_.native(), &memory.workspace, backend};
  if (logits_sink_)
    logits_ = Buffer(MemoryKind::device,
                     static_cast<std::uint64_t>(plan.input.policy.micro_batch_size) *
                         static_cast<std::uint64_t>(plan.input.model.vocab) * sizeof(float),
                     device);
  for (std::byte* data : memory.weight_slots) weight_slots_.push_back({data, nullptr, nullptr});
  for (std::byte* data : memory.cache_slots) cache_slots_.push_back({data, nullptr, nullptr});
  for (std::byte* data : memory.hidden_slots) hidden_slots_.push_back({data, nullptr, nullptr});
  std::int32_t cached = 0;
  for (const auto& layer : layers) cache_index_.push_back(layer->description().has_cache() ? cached++ : -1);
  half_done_.resize(static_cast<std::size_t>(plan.input.policy.num_micro_batches));
  if (plan.input.policy.uses_host_attention()) {
    host_attention_ = std::make_unique<HostAttention>(plan, memory, device, backend, tracer);
    host_attention_->set_error_handler(on_stream_error);
  }
  for (Stream* stream : side_streams()) stream->set_error_handler(on_stream_error);
}

std::array<Stream*, 6> SliceExecutor::side_streams() {
  return {&weight_loads_, &weight_copies_, &cache_loads_, &cache_stores_, &hidden_loads_, &hidden_stores_};
}

// The streams' tasks use the transfers, which die first.
SliceExecutor::~SliceExecutor() {
  if (host_attention_) host_attention_->stop();
  for (Stream* stream : side_streams()) stream->stop();
}

void SliceExecutor::fill_weights() { memory_.weights.fill(weight_loads_.tracer()); }

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
    rows.rows.push_back(
        {RowId(r), r, start, true, false, std::vector<std::int32_t>(static_cast<std::size_t>(count), 0)});
  // A whole block, as whether a layer is made plain depends on it; the first micro-batch is computed.
  work.micro_batches.assign(static_cast<std::size_t>(plan_.input.policy.num_micro_batches), rows);
  begin_sweep(work);
  std::byte* hidden = memory_.hidden.resident(0, hidden_bytes(batch(MicroBatchId(0))));
  if (!hidden) hidden = hidden_slots_[0].data;
  std::byte* stage = cache_slots_.empty() ? nullptr : cache_slots_[0].data;
  std::byte* slot = weight_slots_.empty() ? nullptr : weight_slots_[0].data;
  std::vector<LayerKind> seen;
  for (std::size_t j = 0; j < layers_.size(); ++j) {
    const LayerKind kind = layers_[j]->description().kind;
    if (std::find(seen.begin(), seen.end(), kind) != seen.end()) continue;
    seen.push_back(kind);
    const LayerId layer(static_cast<std::int32_t>(j));
    view_weights(layer, slot);
    const KvView cache = is_cached(layer) ? cache_view(layer, MicroBatchId(0), stage) : KvView{};
    if (is_cached(layer) && on_host(MicroBatchId(0))) {
      const LayerCall call = half_call(MicroBatchId(0), hidden, cache);
      layers_[j]->project(context_, call);
      layers_[j]->finish(context_, call);
      continue;
    }
    compute_chunks(*layers_[j], MicroBatchId(0), hidden, cache);
  }
  span_.reset();
  end_sweep();
  compute_.synchronize();
}

void SliceExecutor::begin_sweep(const SweepWork& work) {
  work_ = work;
  batches_ = &memory_.batches.prepare(work_, compute_);
  plain_layer_.begin_sweep(*batches_);
}

void SliceExecutor::end_sweep() { memory_.batches.mark_used(compute_); }

void SliceExecutor::synchronize() {
  compute_.synchronize();
  for (Stream* stream : side_streams()) stream->synchronize();
  if (host_attention_) host_attention_->synchronize();
}

// With overlap off nothing may run beside the next call, on the GPU neither.
void SliceExecutor::end_call(Stream& stream) {
  if (!plan_.input.policy.overlap) stream.synchronize();
}

EventPtr& SliceExecutor::cache_stored(LayerId layer, std::int32_t slot) {
  const auto index = static_cast<std::size_t>(cache_index_[layer.index()]);
  return cache_stored_[index * static_cast<std::size_t>(plan_.memory.cache.num_slots) + static_cast<std::size_t>(slot)];
}

// On a GPU no event then stands between its kernels and those of the next layer, which may start before they end.
bool SliceExecutor::nothing_waits_for(LayerId layer) const {
  const bool wanted = layer_slot_[layer.index()] || hidden_.slot || cache_.slot || is_last(layer);
  return !wanted && context_.device.is_cuda() && plan_.input.policy.overlap && !compute_.tracer()->keeps_events();
}

void SliceExecutor::view_weights(LayerId layer, std::byte* slot) {
  weight_views_ = memory_.weights.views(layer, slot);
  weight_rests_ = memory_.weights.rests(layer);
  plain_layer_.forget();
}

KvView SliceExecutor::cache_view(LayerId layer, MicroBatchId k, std::byte* stage) {
  return cache_tables_.view(cache_index_[layer.index()], batch(k).slot, device_rows(batch(k).rows), stage, compute_);
}

LayerCall SliceExecutor::chunk_call(const BatchChunk& chunk, MicroBatchId k, std::byte* hidden, const KvView& cache) {
  const std::int64_t width = plan_.input.model.hidden;
  const std::int32_t rows = plan_.input.policy.micro_batch_size;
  LayerCall call;
  call.weights = weight_views_;
  call.rests = weight_rests_;
  call.batch = chunk.batch;
  call.hidden = contiguous_view(hidden, batch(k).num_tokens, width, plan_.input.policy.dtype)
                    .row_range(chunk.first_token, chunk.batch.num_tokens);
  call.token_ids = chunk.token_ids;
  call.positions = chunk.positions;
  call.cache = cache;
  if (cache.heads) {
    call.cache.heads += static_cast<std::ptrdiff_t>(chunk.first_row) * cache.num_heads;
    call.cache.host_heads += static_cast<std::ptrdiff_t>(chunk.first_row) * cache.num_heads;
  }
  call.attention_sparsity = static_cast<float>(plan_.input.policy.attention_sparsity);
  call.output_rows = chunk.output_rows;
  call.num_outputs = chunk.num_outputs;
  if (logits_.data())
    call.logits = contiguous_view(logits_.data(), rows, plan_.input.model.vocab, DType::float32)
                      .row_range(chunk.first_output, chunk.num_outputs);
  const std::size_t output = k.index() * max_outputs_ + static_cast<std::size_t>(chunk.first_output);
  call.next_tokens = memory_.next_tokens + output;
  call.targets = chunk.targets;
  if (chunk.targets) call.scores = memory_.scores + output;
  return call;
}

void SliceExecutor::compute_chunks(const Layer& layer, MicroBatchId k, std::byte* hidden, const KvView& cache) {
  for (const BatchChunk& chunk : batch(k).chunks) {
    LayerCall call = chunk_call(chunk, k, hidden, cache);
    if (plain_layer_.takes(layer.description(), chunk)) {
      if (!plain_layer_.is_made()) make_plain(layer);
      call.weights = plain_layer_.weights();
    }
    layer.forward(context_, call);
  }
}

void SliceExecutor::make_plain(const Layer& layer) {
  const LayerDescription& what = layer.description();
  span_.reset();
  {
    const StreamSpan span(compute_, Resource::compute, "weights made plain: " + what.name);
    plain_layer_.make(context_, what, weight_views_);
  }
  span_.emplace(compute_, Resource::compute, what.name);
}

void SliceExecutor::compute(LayerId layer, MicroBatchId k) {
  const Layer& what = *layers_[layer.index()];
  hidden_ = hidden_inputs_.front();
  hidden_inputs_.pop_front();
  cache_ = {};
  if (is_staged(layer, k)) {
    cache_ = cache_inputs_.front();
    cache_inputs_.pop_front();
  }
  Slot* weights = layer_slot_[layer.index()];
  finish_half_done(k);
  if (weights || hidden_.ready || cache_.ready) span_.reset();  // waiting is not computing
  if (k.value == 0) {
    if (weights) compute_.wait(weights->loaded);
    view_weights(layer, weights ? weights->data : nullptr);
  }
  compute_.wait(hidden_.ready);
  compute_.wait(cache_.ready);
  if (is_last(layer)) compute_.wait(hidden_stored_[k.index()]);  // the sweep before may still be reading its tokens
  if (is_last(layer) && logits_sink_)
    for (const EventPtr& read : hidden_stored_) compute_.wait(read);  // one place for all micro-batches

  if (!span_) span_.emplace(compute_, Resource::compute, what.description().name);
  const KvView cache = is_cached(layer) ? cache_view(layer, k, cache_.data) : KvView{};
  if (is_cached(layer) && on_host(k)) {
    compute_half(what, layer, k, cache, weights);
    return;
  }
  compute_chunks(what, k, hidden_.data, cache);
  if (nothing_waits_for(layer)) return;
  span_.reset();
  computed_ = compute_.record();
  if (weights && k.index() + 1 == batches_->size()) weights->free = computed_;
  end_call(compute_);
}

void SliceExecutor::store_cache(LayerId layer, MicroBatchId k) {
  if (!cache_.slot) return;
  cache_stores_.wait(computed_);
  const std::span<const CacheRow> own = device_rows(batch(k).rows);
  cache_stores_.post([this, index = cache_index_[layer.index()], where = batch(k).slot,
                      rows = std::vector(own.begin(), own.end()),
                      data = cache_.data] { memory_.cache.store(index, where, rows, data, cache_store_transfer_); });
  cache_stored(layer, batch(k).slot) = cache_.slot->free = cache_stores_.record();
  end_call(cache_stores_);
}

void SliceExecutor::store_hidden(LayerId layer, MicroBatchId k) {
  const std::uint64_t bytes = hidden_bytes(batch(k));
  EventPtr& stored = hidden_stored_[k.index()];
  if (is_last(layer) && neighbours_.has_downstream()) {
    hidden_stores_.wait(computed_);
    hidden_stores_.post(
        [this, data = hidden_.data, bytes] { neighbours_.send_hidden(data, bytes, hidden_store_transfer_); });
    stored = hidden_stores_.record();
  } else if (is_last(layer)) {
    hidden_stores_.wait(computed_);
    deliver_tokens(k);
    stored = hidden_stores_.record();
  } else if (hidden_.slot) {
    hidden_stores_.wait(computed_);
    hidden_stores_.post(
        [this, k, data = hidden_.data, bytes] { memory_.hidden.store(k.value, data, bytes, hidden_store_transfer_); });
    stored = hidden_stores_.record();
  }
  if (hidden_.slot) hidden_.slot->free = stored;
  end_call(hidden_stores_);
}

void SliceExecutor::deliver_tokens(MicroBatchId k) {
  const std::size_t first = k.index() * max_outputs_;
  const auto count = static_cast<std::size_t>(batch(k).num_outputs);
  hidden_stores_.post([this, first, count, sweep = work_.number, k, has_scores = batch(k).has_scores] {
    auto* host = reinterpret_cast<std::int32_t*>(host_tokens_.data()) + first;
    hidden_store_transfer_.gpu_to_host(reinterpret_cast<std::byte*>(host),
                                       reinterpret_cast<const std::byte*>(memory_.next_tokens + first),
                                       count * sizeof(std::int32_t), "tokens");
    auto* scores = reinterpret_cast<float*>(host_scores_.data()) + (has_scores ? first : 0);
    if (has_scores)
      hidden_store_transfer_.gpu_to_host(reinterpret_cast<std::byte*>(scores),
                                         reinterpret_cast<const std::byte*>(memory_.scores + first),
                                         count * sizeof(float), "scores");
    std::vector<float> logits;
    if (logits_sink_) {
      logits.resize(count * static_cast<std::size_t>(plan_.input.model.vocab));
      hidden_store_transfer_.gpu_to_host(reinterpret_cast<std::byte*>(logits.data()), logits_.data(),
                                         logits.size() * sizeof(float), "logits");
    }
    hidden_stores_.record_in_task()->await_result();
    if (logits_sink_) logits_sink_(sweep, k, logits);
    SampledTokens sampled{sweep, k.value, {host, host + count}, {}};
    if (has_scores) sampled.scores.assign(scores, scores + count);
    token_sink_(std::move(sampled));
  });
}

}  // namespace flexgen
