#include "engine/host_attention.hpp"

#include "engine/transfer_stream.hpp"
#include "engine/upload.hpp"

namespace flexgen {

HostAttention::HostAttention(const StagePlan& plan, StageMemory& memory, const LayerCalls& calls,
                             const Surroundings& around)
    : plan_(plan),
      memory_(memory),
      calls_(calls),
      tracer_(around.tracer),
      host_{Device{}, nullptr, nullptr, around.backend},
      to_host_("attention in", side_mode(plan.input.policy), around.device, &around.tracer),
      attention_("host attention", side_mode(plan.input.policy), around.device, &around.tracer) {
  const std::uint64_t bytes = block_row_bytes(plan.input.policy, plan.input.model);
  projected_ = memory.arena.take(3 * bytes, "queries, keys and values");
  attended_ = memory.arena.take(bytes, "attention of the host");
  host_projected_ = Buffer(MemoryKind::pinned, 3 * bytes, around.device);
  host_attended_ = Buffer(MemoryKind::pinned, bytes, around.device);
  to_host_.set_error_handler(around.on_stream_error);
  attention_.set_error_handler(around.on_stream_error);
}

// The streams' tasks use the host's buffers, which die first.
HostAttention::~HostAttention() {
  to_host_.stop();
  attention_.stop();
}

void HostAttention::synchronize() {
  to_host_.synchronize();
  attention_.synchronize();
}

std::uint64_t HostAttention::part(std::int32_t k, std::int32_t widths) const {
  return static_cast<std::uint64_t>(k) * static_cast<std::uint64_t>(widths) *
         row_bytes(plan_.input.policy, plan_.input.model);
}

MatrixView HostAttention::projected(std::int32_t k, std::int32_t num_rows) const {
  return contiguous_view(projected_ + part(k, 3), num_rows, 3LL * plan_.input.model.hidden, plan_.input.policy.dtype);
}
MatrixView HostAttention::attended(std::int32_t k, std::int32_t num_rows) const {
  return contiguous_view(attended_ + part(k, 1), num_rows, plan_.input.model.hidden, plan_.input.policy.dtype);
}

EventPtr HostAttention::start(std::int32_t layer, const MicroBatch& batch, std::int32_t k, const EventPtr& ready,
                              const EventPtr& stored) {
  const AttentionRows rows = calls_.split(batch.rows);
  Task task;
  task.layer = layer;
  task.slot = batch.slot;
  task.k = k;
  task.first_row = static_cast<std::int32_t>(rows.device.size());
  task.rows.assign(rows.host.begin(), rows.host.end());
  const auto num_rows = static_cast<std::int32_t>(task.rows.size());
  const MatrixView from =
      projected(k, static_cast<std::int32_t>(batch.rows.size())).row_range(task.first_row, num_rows);
  to_host_.wait(ready);
  to_host_.post([this, from, k] {
    to_host_.copy(host_projected_.data() + part(k, 3), from.data, from.size_bytes(), Resource::gpu_to_host, "queries");
  });
  task.arrived = to_host_.record();
  task.stored = stored;
  attention_.post([this, task] { work_on(task); });
  return attention_.record();
}

// projected [rows, 3 * hidden] -> keys and values into the cache, attention -> attended [rows, hidden]
void HostAttention::work_on(const Task& task) {
  task.arrived->await_result();
  if (task.stored) task.stored->await_result();
  const ModelSpec& model = plan_.input.model;
  const DType dtype = plan_.input.policy.dtype;
  const auto num_rows = static_cast<std::int32_t>(task.rows.size());
  HostArrays arrays;
  const AttentionCall call = calls_.on_host(
      task.rows, arrays, contiguous_view(host_projected_.data() + part(task.k, 3), num_rows, 3LL * model.hidden, dtype),
      contiguous_view(host_attended_.data() + part(task.k, 1), num_rows, model.hidden, dtype));
  memory_.cache.fill_host_table(task.layer, task.slot, task.rows, arrays.heads);
  {
    const std::uint64_t position = memory_.cache.layout().shape.position_bytes();
    std::uint64_t bytes = 0;
    for (const std::int32_t start : arrays.start)
      bytes += static_cast<std::uint64_t>(start + 1) * position * static_cast<std::uint64_t>(model.attention.kv_heads);
    const TraceSpan span(&tracer_, Resource::host_attention, "attention", bytes);
    attend(host_, model.attention, call);
  }
  const MatrixView to = attended(task.k, task.first_row + num_rows).row_range(task.first_row, num_rows);
  upload(attention_, host_attended_, part(task.k, 1), to.data, to.size_bytes(), "attended");
}

}  // namespace flexgen
