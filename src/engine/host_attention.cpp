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
      attention_("host attention", side_mode(plan.input.policy), around.device, &around.tracer),
      projected_(memory.tiers.on_device(Piece::projected)),
      attended_(memory.tiers.on_device(Piece::attended)),
      host_projected_(memory.tiers.on_host(Piece::projected)),
      host_attended_(memory.tiers.on_host(Piece::attended)) {
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

MatrixView HostAttention::projected(std::int32_t k, std::int32_t num_rows) const {
  return contiguous_view(projected_[static_cast<std::size_t>(k)], num_rows, 3LL * plan_.input.model.hidden,
                         plan_.input.policy.dtype);
}
MatrixView HostAttention::attended(std::int32_t k, std::int32_t num_rows) const {
  return contiguous_view(attended_[static_cast<std::size_t>(k)], num_rows, plan_.input.model.hidden,
                         plan_.input.policy.dtype);
}

EventPtr HostAttention::start(std::int32_t layer, const MicroBatch& batch, std::int32_t k, const EventPtr& ready,
                              const EventPtr& stored) {
  const AttentionRows rows = calls_.split(batch.slot, batch.rows);
  const BatchChunk& chunk = batch.chunks.back();
  Task task;
  task.layer = layer;
  task.slot = batch.slot;
  task.k = k;
  task.first_row = static_cast<std::int32_t>(rows.device.size()) - chunk.first_row;
  task.rows.assign(rows.host.begin(), rows.host.end());
  const auto num_rows = static_cast<std::int32_t>(task.rows.size());
  task.shared = batch.shared.part(static_cast<std::int32_t>(rows.device.size()), num_rows);
  const MatrixView from = projected(k, chunk.batch.num_rows).row_range(task.first_row, num_rows);
  to_host_.wait(ready);
  to_host_.post([this, from, k] {
    to_host_.copy(host_projected_[static_cast<std::size_t>(k)], from.data, from.size_bytes(), Resource::gpu_to_host,
                  "queries");
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
  const auto k = static_cast<std::size_t>(task.k);
  HostArrays arrays;
  const AttentionCall call = calls_.on_host(task.rows, task.shared, arrays,
                                            contiguous_view(host_projected_[k], num_rows, 3LL * model.hidden, dtype),
                                            contiguous_view(host_attended_[k], num_rows, model.hidden, dtype));
  const std::span<KvHead> heads(arrays.heads);
  const std::size_t num_own = task.rows.size() * static_cast<std::size_t>(model.attention.kv_heads);
  memory_.cache.fill_host_table(task.layer, task.slot, task.rows, heads.first(num_own));
  memory_.cache.fill_host_table(task.layer, task.slot, task.shared.runs, heads.subspan(num_own));
  {
    const std::uint64_t position = memory_.cache.layout().shape.position_bytes();
    std::uint64_t bytes = 0;
    for (const std::span<const CacheRow> read : {std::span<const CacheRow>(task.rows), {task.shared.runs}})
      for (const CacheRow& run : read)
        bytes += static_cast<std::uint64_t>(run.start + run.count) * position *
                 static_cast<std::uint64_t>(model.attention.kv_heads);
    const TraceSpan span(&tracer_, Resource::host_attention, "attention", bytes);
    attend(host_, model.attention, call);
  }
  const MatrixView to = attended(task.k, task.first_row + num_rows).row_range(task.first_row, num_rows);
  upload(attention_, host_attended_.buffer(), host_attended_.offset(k), to.data, to.size_bytes(), "attended");
}

}  // namespace flexgen
