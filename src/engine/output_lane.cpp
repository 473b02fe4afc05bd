#include "engine/output_lane.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "engine/sampler.hpp"

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
      tokens_(memory.next_tokens),
      scores_(memory.scores),
      host_tokens_(reinterpret_cast<std::int32_t*>(memory.result_tokens.data())),
      host_scores_(reinterpret_cast<float*>(memory.result_scores.data())) {
  if (keeps_logits())
    logits_ = Buffer(MemoryKind::device,
                     static_cast<std::uint64_t>(plan.input.policy.micro_batch_size) *
                         static_cast<std::uint64_t>(vocab_) * sizeof(float),
                     device);
}

void OutputLane::compute(const OpContext& context, const Layer& head, const LayerCall& call, const BatchChunk& chunk,
                         MicroBatchId k) const {
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

    const std::size_t at = first_output(k) + static_cast<std::size_t>(chunk.first_output + first);
    SampleArgs args{range.logits, tokens_ + at};
    if (chunk.targets) {
      args.targets = chunk.targets + first;
      args.scores = scores_ + at;
    }
    sample(context, args);
  }
}

void OutputLane::deliver(MicroBatchId k, const MicroBatch& batch, TransferStream& out) {
  out.post(
      [this, sweep = sweep_, k, count = static_cast<std::size_t>(batch.num_outputs),
       has_scores = batch.has_scores](Transfer& transfer) { deliver_in_task(sweep, k, count, has_scores, transfer); });
}

void OutputLane::deliver_in_task(std::int64_t sweep, MicroBatchId k, std::size_t count, bool has_scores,
                                 Transfer& transfer) {
  const std::size_t first = first_output(k);
  std::int32_t* const tokens = host_tokens_ + first;
  transfer.gpu_to_host(reinterpret_cast<std::byte*>(tokens), reinterpret_cast<const std::byte*>(tokens_ + first),
                       count * sizeof(std::int32_t), "tokens");
  float* const scores = host_scores_ + (has_scores ? first : 0);
  if (has_scores)
    transfer.gpu_to_host(reinterpret_cast<std::byte*>(scores), reinterpret_cast<const std::byte*>(scores_ + first),
                         count * sizeof(float), "scores");
  std::vector<float> logits;
  if (keeps_logits()) {
    logits.resize(count * static_cast<std::size_t>(vocab_));
    transfer.gpu_to_host(reinterpret_cast<std::byte*>(logits.data()), logits_.data(), logits.size() * sizeof(float),
                         "logits");
  }
  transfer.stream().record_in_task()->await_result();
  if (keeps_logits()) sinks_.logits(sweep, k, logits);
  SampledTokens sampled{sweep, k.value, {tokens, tokens + count}, {}};
  if (has_scores) sampled.scores.assign(scores, scores + count);
  sinks_.tokens(std::move(sampled));
}

}  // namespace flexgen
