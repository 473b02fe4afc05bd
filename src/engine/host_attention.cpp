#include "engine/host_attention.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/upload.hpp"
#include "ops/attention.hpp"

namespace flexgen {
namespace {

// Whole rows lie on a tier (plan_memory); gpu rows come first.
std::int32_t first_host_row(const CacheLayout& cache, double percent) {
  std::int64_t gpu_rows = 0;  // where most rows are: layers may differ by one
  for (const CacheSplit& split : cache.splits) gpu_rows = std::max(gpu_rows, split.gpu_units / cache.shape.heads);
  const std::int64_t candidates = cache.shape.rows - gpu_rows;
  const auto here = static_cast<std::int64_t>(std::lround(static_cast<double>(candidates) * percent / 100));
  return static_cast<std::int32_t>(cache.shape.rows - here);
}

Stream::Mode mode_of(const Policy& policy) {
  return policy.overlap ? Stream::Mode::threaded : Stream::Mode::inline_tasks;
}

}  // namespace

HostAttention::HostAttention(const StagePlan& plan, StageMemory& memory, const Device& device, Backend backend,
                             Tracer& tracer)
    : plan_(plan),
      memory_(memory),
      tracer_(tracer),
      host_{Device{}, nullptr, nullptr, backend},
      first_row_(first_host_row(plan.memory.cache, plan.input.policy.host_attention_percent)),
      to_host_("attention in", mode_of(plan.input.policy), device, &tracer),
      attention_("host attention", mode_of(plan.input.policy), device, &tracer),
      projected_(memory.tiers.on_device(Piece::projected)),
      attended_(memory.tiers.on_device(Piece::attended)),
      host_projected_(memory.tiers.on_host(Piece::projected)),
      host_attended_(memory.tiers.on_host(Piece::attended)) {}

HostAttention::~HostAttention() { stop(); }

void HostAttention::stop() {
  to_host_.stop();
  attention_.stop();
}

void HostAttention::set_error_handler(const std::function<void(std::exception_ptr)>& handler) {
  to_host_.set_error_handler(handler);
  attention_.set_error_handler(handler);
}

void HostAttention::synchronize() {
  to_host_.synchronize();
  attention_.synchronize();
}

bool HostAttention::takes(std::span<const CacheRow> rows) const {
  return num_device_rows(rows) < static_cast<std::int32_t>(rows.size()) &&
         std::all_of(rows.begin(), rows.end(), [](const CacheRow& row) { return row.count == 1 && row.start > 0; });
}

std::int32_t HostAttention::num_device_rows(std::span<const CacheRow> rows) const {
  const auto first =
      std::find_if(rows.begin(), rows.end(), [&](const CacheRow& row) { return row.cache_row >= first_row_; });
  return static_cast<std::int32_t>(first - rows.begin());
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
  Task task;
  task.layer = layer;
  task.slot = batch.slot;
  task.k = k;
  task.first_row = num_device_rows(batch.rows);
  task.rows.assign(batch.rows.begin() + task.first_row, batch.rows.end());
  const auto num_rows = static_cast<std::int32_t>(task.rows.size());
  const MatrixView from =
      projected(k, static_cast<std::int32_t>(batch.rows.size())).row_range(task.first_row, num_rows);
  to_host_.wait(ready);
  to_host_.post([this, from, k] {
    to_host_.copy(host_projected_[static_cast<std::size_t>(k)], from.data, from.size_bytes(), Resource::gpu_to_host,
                  "queries");
  });
  task.arrived = to_host_.record();
  task.stored = stored;
  attention_.post([this, task] { attend(task); });
  return attention_.record();
}

// projected [rows, 3 * hidden] -> keys and values into the cache, attention -> attended [rows, hidden]
void HostAttention::attend(const Task& task) {
  task.arrived->await_result();
  if (task.stored) task.stored->await_result();
  const ModelSpec& model = plan_.input.model;
  const DType dtype = plan_.input.policy.dtype;
  const auto num_rows = static_cast<std::int32_t>(task.rows.size());
  const auto k = static_cast<std::size_t>(task.k);
  std::vector<std::int32_t> offset(task.rows.size() + 1), begin(task.rows.size());
  std::iota(offset.begin(), offset.end(), 0);
  std::vector<KvHead> heads(task.rows.size() * static_cast<std::size_t>(model.attention.kv_heads));
  memory_.cache.fill_host_table(task.layer, task.slot, task.rows, heads);

  AttentionArgs args;
  args.batch.num_rows = args.batch.num_tokens = num_rows;
  args.batch.max_count = 1;
  for (std::size_t r = 0; r < task.rows.size(); ++r) {
    begin[r] = task.rows[r].start;
    args.batch.max_length = std::max(args.batch.max_length, begin[r] + 1);
  }
  args.batch.host_token_offset = args.batch.token_offset = offset.data();
  args.batch.host_start = args.batch.start = begin.data();
  args.cache = {heads.data(), heads.data(), model.attention.kv_heads, model.attention.head_size,
                plan_.input.policy.cache_format};
  const std::int64_t h = model.hidden;
  const MatrixView tokens = contiguous_view(host_projected_[k], num_rows, 3 * h, dtype);
  args.q = tokens.col_range(0, h);
  args.scale = model.attention.scale;
  args.sparsity = static_cast<float>(plan_.input.policy.attention_sparsity);
  args.out = contiguous_view(host_attended_[k], num_rows, h, dtype);
  {
    const std::uint64_t position = memory_.cache.layout().shape.position_bytes();
    std::uint64_t bytes = 0;
    for (const std::int32_t start : begin)
      bytes += static_cast<std::uint64_t>(start + 1) * position * static_cast<std::uint64_t>(model.attention.kv_heads);
    const TraceSpan span(&tracer_, Resource::host_attention, "attention", bytes);
    append_kv(host_, args.batch, tokens.col_range(h, h), tokens.col_range(2 * h, h), args.cache);
    attention(host_, args);
  }
  const MatrixView to = attended(task.k, task.first_row + num_rows).row_range(task.first_row, num_rows);
  upload(attention_, host_attended_.buffer(), host_attended_.offset(k), to.data, to.size_bytes(), "attended");
}

}  // namespace flexgen
