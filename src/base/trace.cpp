#include "base/trace.hpp"

#include <fmt/core.h>

#include <chrono>

namespace flexgen {

std::string_view resource_name(Resource resource) {
  static constexpr std::array<std::string_view, num_resources> names{
      "compute", "host_attention", "host_to_gpu", "gpu_to_host", "gpu_copy", "disk_read", "disk_write", "send", "recv"};
  return names[static_cast<std::size_t>(resource)];
}

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
          .count());
}

void Tracer::record(Resource resource, std::string_view name, std::uint64_t begin_ns, std::uint64_t end_ns,
                    std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  Use& use = uses_[static_cast<std::size_t>(phase_at(begin_ns))][static_cast<std::size_t>(resource)];
  use.totals.busy_ns += end_ns - begin_ns;
  use.totals.bytes += bytes;
  ++use.totals.count;
  use.occupied.add(begin_ns, end_ns);
  if (keep_events_) events_.push_back({resource, std::string(name), begin_ns, end_ns, bytes});
}

void Tracer::begin_phase(TracePhase phase, std::uint64_t at_ns) {
  const std::lock_guard lock(mutex_);
  if (phase_begins_.empty() || phase_begins_.back().second != phase) phase_begins_.emplace_back(at_ns, phase);
}

// Spans come late, but seldom by more than a phase.
TracePhase Tracer::phase_at(std::uint64_t time_ns) const {
  for (std::size_t i = phase_begins_.size(); i-- > 0;)
    if (phase_begins_[i].first <= time_ns) return phase_begins_[i].second;
  return TracePhase::other;
}

TotalsByResource Tracer::totals(TracePhase phase) const {
  const std::lock_guard lock(mutex_);
  TotalsByResource totals{};
  for (std::size_t r = 0; r < num_resources; ++r) {
    const Use& use = uses_[static_cast<std::size_t>(phase)][r];
    totals[r] = use.totals;
    totals[r].occupied_ns = use.occupied.total_ns();
  }
  return totals;
}

TotalsByResource Tracer::totals() const {
  TotalsByResource sum{};
  for (const TracePhase phase : {TracePhase::other, TracePhase::prefill, TracePhase::decode, TracePhase::mixed}) {
    const TotalsByResource part = totals(phase);
    for (std::size_t r = 0; r < num_resources; ++r) {
      sum[r].busy_ns += part[r].busy_ns;
      sum[r].bytes += part[r].bytes;
      sum[r].count += part[r].count;
      sum[r].occupied_ns += part[r].occupied_ns;
    }
  }
  return sum;
}

std::vector<TraceEvent> Tracer::events() const {
  const std::lock_guard lock(mutex_);
  return events_;
}

std::string chrome_trace_events(const std::vector<TraceEvent>& events, int rank, std::uint64_t origin_ns) {
  std::string out =
      fmt::format(R"({{"name":"process_name","ph":"M","pid":{},"args":{{"name":"rank {}"}}}})", rank, rank);
  for (std::size_t r = 0; r < num_resources; ++r)
    out += fmt::format(
        ",\n"
        R"({{"name":"thread_name","ph":"M","pid":{},"tid":{},"args":{{"name":"{}"}}}})",
        rank, r, resource_name(static_cast<Resource>(r)));
  for (const TraceEvent& event : events)
    out += fmt::format(
        ",\n"
        R"({{"name":"{}","cat":"{}","ph":"X","pid":{},"tid":{},"ts":{:.3f},"dur":{:.3f},"args":{{"bytes":{}}}}})",
        event.name, resource_name(event.resource), rank, static_cast<int>(event.resource),
        (static_cast<double>(event.begin_ns) - static_cast<double>(origin_ns)) / 1e3,
        static_cast<double>(event.end_ns - event.begin_ns) / 1e3, event.bytes);
  return out;
}

}  // namespace flexgen
