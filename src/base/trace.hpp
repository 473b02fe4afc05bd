// Where the time and the bytes go: totals per resource always, single events when a trace is asked for.
//
// One Tracer per rank, shared by its threads; recording is thread-safe and cheap (one lock, no I/O).
// Event format written at the end: Chrome trace JSON ("Trace Event Format"), one process per rank, one thread
// per resource.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/busy_time.hpp"

namespace flexgen {

/// A resource whose busy time and bytes are counted apart.
enum class Resource : std::uint8_t {
  compute,
  host_attention,  // attention on the host beside a device that computes the rest
  host_to_gpu,
  gpu_to_host,
  gpu_copy,
  disk_read,
  disk_write,
  send,
  recv
};
inline constexpr std::size_t num_resources = 9;
std::string_view resource_name(Resource resource);

/// Monotonic clock, nanoseconds; the same epoch for all processes of one host.
std::uint64_t now_ns();
inline double seconds_since(std::uint64_t begin_ns) { return static_cast<double>(now_ns() - begin_ns) * 1e-9; }

struct TraceEvent {
  Resource resource{};
  std::string name;            // what was done: "weights 3", "layer 3 micro-batch 0"
  std::uint64_t begin_ns = 0;  // now_ns() scale
  std::uint64_t end_ns = 0;
  std::uint64_t bytes = 0;  // moved; 0 for compute
};

struct ResourceTotals {
  std::uint64_t busy_ns = 0;  // lengths of all spans, summed
  std::uint64_t bytes = 0;
  std::uint64_t count = 0;
  std::uint64_t occupied_ns = 0;  // time in which at least one span was open
};
using TotalsByResource = std::array<ResourceTotals, num_resources>;

/// What a job is doing; spans count for the phase in which they begin.
enum class TracePhase : std::uint8_t { other, prefill, decode, mixed };
inline constexpr std::size_t num_trace_phases = 4;

class Tracer {
 public:
  explicit Tracer(bool keep_events = false) : keep_events_(keep_events) {}

  bool keeps_events() const { return keep_events_; }
  void record(Resource resource, std::string_view name, std::uint64_t begin_ns, std::uint64_t end_ns,
              std::uint64_t bytes = 0);

  /// From `at_ns` on, until the next call. Times must not go backwards.
  void begin_phase(TracePhase phase, std::uint64_t at_ns);

  TotalsByResource totals() const;
  TotalsByResource totals(TracePhase phase) const;
  /// Copies out all events so far.
  std::vector<TraceEvent> events() const;

 private:
  bool keep_events_;
  mutable std::mutex mutex_;
  struct Use {
    ResourceTotals totals;
    BusyTime occupied;
  };
  using UseByResource = std::array<Use, num_resources>;
  TracePhase phase_at(std::uint64_t time_ns) const;

  std::array<UseByResource, num_trace_phases> uses_;
  std::vector<std::pair<std::uint64_t, TracePhase>> phase_begins_;
  std::vector<TraceEvent> events_;
};

/// Records the life of a scope.
class TraceSpan {
 public:
  TraceSpan(Tracer* tracer, Resource resource, std::string_view name, std::uint64_t bytes = 0)
      : tracer_(tracer), resource_(resource), name_(name), bytes_(bytes), begin_ns_(tracer ? now_ns() : 0) {}
  ~TraceSpan() {
    if (tracer_) tracer_->record(resource_, name_, begin_ns_, now_ns(), bytes_);
  }
  TraceSpan(const TraceSpan&) = delete;
  TraceSpan& operator=(const TraceSpan&) = delete;

 private:
  Tracer* tracer_;  // null: nothing is recorded
  Resource resource_;
  std::string name_;
  std::uint64_t bytes_;
  std::uint64_t begin_ns_;
};

/// One rank's events as the elements of a Chrome trace's "traceEvents" array, without the brackets (so that
/// ranks can be joined with commas). Times are relative to `origin_ns`.
std::string chrome_trace_events(const std::vector<TraceEvent>& events, int rank, std::uint64_t origin_ns);

}  // namespace flexgen
