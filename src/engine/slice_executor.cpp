#include "engine/slice_executor.hpp"

#include <utility>

namespace flexgen {

SliceExecutor::SliceExecutor(const StagePlan& plan, const Layers& layers, StageMemory& memory, Neighbours& neighbours,
                             const Surroundings& around, OutputSinks sinks)
    : plan_(plan),
      layers_(layers),
      index_arrays_(memory.batches),
      calls_(plan),
      compute_("compute", Stream::Mode::inline_tasks, around.device, &around.tracer),
      context_{around.device, compute_.native(), &memory.workspace, around.backend},
      weights_(plan, memory, around),
      cache_(plan, memory, calls_, around),
      output_(plan, layers, memory, around.device, std::move(sinks)),
      hidden_(plan, memory, neighbours, output_, around),
      half_done_(static_cast<std::size_t>(plan.input.policy.num_micro_batches)),
      time_{around.waits, {}} {
  if (plan.input.policy.uses_host_attention())
    host_attention_ = std::make_unique<HostAttention>(plan, memory, calls_, around);
}

void SliceExecutor::begin_sweep(const SweepWork& work) {
  batches_ = index_arrays_.prepare(work, compute_);
  weights_.begin_sweep(batches_);
  cache_.begin_sweep(work);
  output_.begin_sweep(work.number);
}

void SliceExecutor::end_sweep() { index_arrays_.mark_used(compute_); }

void SliceExecutor::synchronize() {
  compute_.synchronize();
  weights_.synchronize();
  cache_.synchronize();
  hidden_.synchronize();
  if (host_attention_) host_attention_->synchronize();
}

// With overlap off nothing may run beside the next call, on the GPU neither.
void SliceExecutor::end_call() {
  if (!plan_.input.policy.overlap) compute_.synchronize();
}

// On a GPU no event then stands between its kernels and those of the next layer, which may start before they end.
bool SliceExecutor::nothing_waits_for(LayerId layer, const LaneInput& hidden, const LaneInput& cache) const {
  const bool wanted = weights_.slot(layer) || hidden.slot || cache.slot || is_last(layer);
  return !wanted && context_.device.is_cuda() && plan_.input.policy.overlap && !compute_.tracer()->keeps_events();
}

LayerOperands SliceExecutor::operands_of(LayerId layer, MicroBatchId k, std::byte* hidden) {
  return {weights_.stored(), weights_.rests(), hidden, cache_.view(layer, batch(k), compute_)};
}

void SliceExecutor::compute(LayerId layer, MicroBatchId k) {
  const LaneInput& hidden = hidden_.take_input();
  const LaneInput& cache = cache_.take_input(layer, batch(k));
  StagingSlot* const weights = weights_.slot(layer);
  finish_half_done(k);
  if (weights || hidden.ready || cache.ready) time_.computing.reset();  // waiting is not computing
  await_inputs(layer, k, hidden, cache);

  if (!time_.computing) time_.computing.emplace(compute_, Resource::compute, layer_of(layer).description().name);
  const LayerOperands operands = operands_of(layer, k, hidden.data);
  if (cache_.has(layer) && !calls_.split(batch(k).slot, batch(k).rows).host.empty()) {
    compute_half(layer, k, operands);
    return;
  }
  compute_chunks(layer, k, operands, batch(k).chunks);
  if (nothing_waits_for(layer, hidden, cache)) return;
  time_.computing.reset();
  computed_ = compute_.record();
  if (weights && is_last(k)) weights->free = computed_;
  end_call();
}

// On a GPU the device waits, in stream order, and the host does not.
void SliceExecutor::await_inputs(LayerId layer, MicroBatchId k, const LaneInput& hidden, const LaneInput& cache) {
  {
    const WaitSpan span(time_.waits, Wait::load);
    if (k.value == 0) weights_.take_input(layer, compute_);
    compute_.wait(cache.ready);
    if (!hidden_.receives(layer)) compute_.wait(hidden.ready);
  }
  if (hidden_.receives(layer)) {
    const WaitSpan span(time_.waits, Wait::receive);
    compute_.wait(hidden.ready);
  }
  if (!is_last(layer)) return;
  const WaitSpan span(time_.waits, Wait::send);
  hidden_.await_output_places(k, compute_);
}

void SliceExecutor::compute_chunks(LayerId layer, MicroBatchId k, const LayerOperands& operands,
                                   std::span<const BatchChunk> chunks) {
  const Layer& what = layer_of(layer);
  for (const BatchChunk& chunk : chunks) {
    LayerCall call = calls_.whole(batch(k), chunk, operands);
    if (weights_.lacks_plain(chunk)) make_plain(layer);
    call.weights = weights_.of_call(chunk);
    if (what.description().kind == LayerKind::head) output_.compute(context_, what, call, batch(k), chunk, k);
    else what.forward(context_, call);
  }
}

void SliceExecutor::make_plain(LayerId layer) {
  const std::string& name = layer_of(layer).description().name;
  time_.computing.reset();
  {
    const StreamSpan span(compute_, Resource::compute, "weights made plain: " + name);
    weights_.make_plain(context_);
  }
  time_.computing.emplace(compute_, Resource::compute, name);
}

}  // namespace flexgen
