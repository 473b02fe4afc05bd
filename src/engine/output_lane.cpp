#include "engine/output_lane.hpp"

#include <algorithm>
#include <utility>
#include <vector>

namespace flexgen {
namespace {

// As many as the workspace has room for: it is planned for one output of each row.
std::int64_t outputs_of_call(const Layers& layers, const StagePlan& plan, const Workspace& workspace,
                             const Device& device) {
  const Layer& last = *layers.back();
  if (last.description().kind != LayerKind::head) return 0;
  const std::uint64_t bytes_of_one = last.workspace_bytes(device, plan.input.policy, {1, 1, 1});
  return std::clamp<std::int64_t>(static_cast<std::int64_t>(workspace.size_bytes() / bytes_of_one), 1,
                                  max_outputs_of_call);
}

}  // namespace

OutputLane::OutputLane(const StagePlan& plan, const Layers& layers, StageMemory& memory, const Device& device,
                       OutputSinks sinks)
    : sinks_(std::move(sinks)),
      vocab_(plan.input.model.vocab),
      max_outputs_(static_cast<std::size_t>(max_outputs(plan.input.policy, plan.input.job))),
      outputs_of_call_(outputs_of_call(layers, plan, memory.workspace, device)),
      max_top_(static_cast<std::size_t>(plan.input.job.sampling.max_top)),
      device_(memory.outputs),
      host_(memory.results.arrays()) {
  if (keeps_logits())
    logits_ = Buffer(MemoryKind::device,
                     static_cast<std::uint64_t>(plan.input.policy.micro_batch_size) *
                         static_cast<std::uint64_t>(vocab_) * sizeof(float),
                     device);
}

OutputArrays OutputLane::at(const OutputArrays& all, MicroBatchId k, std::int64_t first, std::int32_t max_top) const {
  const std::size_t begin = k.index() * max_outputs_;
  const std::size_t output = begin + static_cast<std::size_t>(first);
  const std::size_t top = begin * max_top_ + static_cast<std::size_t>(first) * static_cast<std::size_t>(max_top);
  return {all.tokens + output, all.scores ? all.scores + output : nullptr,
          all.top_tokens ? all.top_tokens + top : nullptr, all.top_scores ? all.top_scores + top : nullptr};
}

void OutputLane::compute(const OpContext& context, const Layer& head, const LayerCall& call, const MicroBatch& batch,
                         const BatchChunk& chunk, MicroBatchId k) const {
  LayerCall range = call;
  for (std::int64_t first = 0; first < chunk.num_outputs; first += outputs_of_call_) {
    const std::int64_t count = std::min(outputs_of_call_, chunk.num_outputs - first);
    const Workspace::Scope scope(*context.workspace);
    const std::uint64_t bytes = static_cast<std::uint64_t>(count * vocab_) * sizeof(float);
    std::byte* const logits =
        keeps_logits()
            ? logits_.data() + static_cast<std::uint64_t>((chunk.first_output + first) * vocab_) * sizeof(float)
            : context.workspace->take(bytes, "logits");
    range.output_rows = chunk.output_rows + first;
    range.num_outputs = static_cast<std::int32_t>(count);
    range.logits = contiguous_view(logits, count, vocab_, DType::float32);
    head.forward(context, range);

    SampleArgs args{range.logits, at(device_, k, chunk.first_output + first, batch.max_top)};
    if (chunk.targets) args.targets = chunk.targets + first;
    if (chunk.choices.how) {
      args.choices = {chunk.choices.how + first, chunk.choices.host_how + first, chunk.choices.adjustments};
      args.has_scores = batch.has_scores;
      args.max_top = batch.max_top;
    }
    sample(context, args);
  }
}

void OutputLane::deliver(MicroBatchId k, const MicroBatch& batch, TransferStream& out) {
  const Delivery what{sweep_, k, static_cast<std::size_t>(batch.num_outputs), batch.has_scores, batch.max_top};
  out.post([this, what](Transfer& transfer) { deliver_in_task(what, transfer); });
}

void OutputLane::deliver_in_task(const Delivery& what, Transfer& transfer) {
  const OutputArrays from = at(device_, what.k, 0, what.max_top), to = at(host_, what.k, 0, what.max_top);
  const std::size_t count = what.count;
  const auto fetch = [&]<class T>(const T* device, T* host, std::size_t num, const char* name) {
    transfer.gpu_to_host(reinterpret_cast<std::byte*>(host), reinterpret_cast<const std::byte*>(device),
                         num * sizeof(T), name);
  };
  fetch(from.tokens, to.tokens, count, "tokens");
  const std::size_t num_top = count * static_cast<std::size_t>(what.max_top);
  if (what.has_scores) fetch(from.scores, to.scores, count, "scores");
  if (num_top > 0) {
    fetch(from.top_tokens, to.top_tokens, num_top, "alternatives");
    fetch(from.top_scores, to.top_scores, num_top, "scores of alternatives");
  }
  std::vector<float> logits;
  if (keeps_logits()) {
    logits.resize(count * static_cast<std::size_t>(vocab_));
    transfer.gpu_to_host(reinterpret_cast<std::byte*>(logits.data()), logits_.data(), logits.size() * sizeof(float),
                         "logits");
  }
  transfer.stream().record_in_task()->await_result();
  if (keeps_logits()) sinks_.logits(what.sweep, what.k, logits);
  SampledTokens sampled{what.sweep, what.k.value, {to.tokens, to.tokens + count}, {}, what.max_top, {}, {}};
  if (what.has_scores) sampled.scores.assign(to.scores, to.scores + count);
  if (num_top > 0) {
    sampled.top_tokens.assign(to.top_tokens, to.top_tokens + num_top);
    sampled.top_scores.assign(to.top_scores, to.top_scores + num_top);
  }
  sinks_.tokens(std::move(sampled));
}

}  // namespace flexgen
