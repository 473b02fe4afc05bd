// In-order streams of work and the events that order them against each other, for host and GPU alike.
//
// A threaded stream owns one worker thread. On a CUDA device it also owns a cudaStream_t: its tasks run on the worker
// and enqueue GPU work without waiting for it. On the host a task is the work itself. An inline stream runs tasks in
// the caller (the compute stream always does; every stream does when overlap is off).
// An Event is one-shot: recorded once by a stream, awaited by any number of streams. It is *recorded* when the worker
// has reached it (host side) and *complete* when the device has, too.
// A task that throws poisons its stream: events recorded later fail, and waiting for them rethrows the first error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/trace.hpp"
#include "device/device.hpp"

namespace flexgen {

class Event;
using EventPtr = std::shared_ptr<Event>;

class Stream {
 public:
  enum class Mode : std::uint8_t { inline_tasks, threaded };

  /// @param name  for messages and thread names ("weights")
  Stream(std::string name, Mode mode, const Device& device, Tracer* tracer = nullptr);
  /// Finishes what was posted; errors are dropped here (wait for an event or synchronize to see them).
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  /// Appends a task.
  void post(std::function<void()> task);
  /// Appends an event; it completes when all that was posted before has completed on host and device.
  EventPtr record();
  /// Makes all that is posted later wait for `event` (null: nothing to wait for). In a CUDA stream the device waits,
  /// the host only until the event is recorded.
  void wait(const EventPtr& event);
  /// Runs what was posted and ends the worker; nothing may be posted afterwards. For owners whose tasks use members
  /// that die before the stream does. Idempotent.
  void stop() noexcept;
  /// Blocks the caller until everything posted so far is complete; rethrows the stream's first error.
  void synchronize();

  /// Called once, from the worker, with the first error of a threaded stream: whoever waits for other things than this
  /// stream's events would not hear of it. Set before the first task.
  void set_error_handler(std::function<void(std::exception_ptr)> handler);

  /// As record, but at once, from within a task of this stream: orders what the task has enqueued so far.
  EventPtr record_in_task();

  /// Copies within a task or inline: memcpy on the host, cudaMemcpyAsync on this stream otherwise. Call it from this
  /// stream's tasks (or from the caller's thread when inline). `resource` says whose time and bytes it counts as.
  void copy(std::byte* to, const std::byte* from, std::uint64_t bytes, Resource resource, const char* what);

  /// Opens and closes a span of this stream's time for the tracer (device time on a GPU). Same calling rule as copy.
  std::uint64_t open_span();
  void close_span(std::uint64_t span, Resource resource, std::string_view name, std::uint64_t bytes = 0);

  const Device& device() const;
  Mode mode() const;
  Tracer* tracer() const;
  /// cudaStream_t, or null on the host.
  void* native() const;

 private:
  void record_now(Event& event);

  struct State;
  std::unique_ptr<State> state_;
};

/// Records the life of a scope as a span of a stream.
class StreamSpan {
 public:
  StreamSpan(Stream& stream, Resource resource, std::string_view name, std::uint64_t bytes = 0)
      : stream_(stream), resource_(resource), name_(name), bytes_(bytes), span_(stream.open_span()) {}
  ~StreamSpan() { stream_.close_span(span_, resource_, name_, bytes_); }
  StreamSpan(const StreamSpan&) = delete;
  StreamSpan& operator=(const StreamSpan&) = delete;

 private:
  Stream& stream_;
  Resource resource_;
  std::string name_;
  std::uint64_t bytes_;
  std::uint64_t span_;
};

class Event {
 public:
  Event();
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  /// Blocks until host and device have passed the event; rethrows the recording stream's error.
  void synchronize();
  /// The same, for a job's results that the host cannot do without: not counted as a host wait.
  void await_result();
  /// True once host and device have passed it.
  bool complete();

 private:
  friend class Stream;
  void mark_recorded(std::exception_ptr error);
  void wait_until_recorded();

  struct State;
  std::unique_ptr<State> state_;
};

/// Counts of calls that stall the host or allocate GPU memory, for the tests of the steady state.
struct DeviceCallCounts {
  std::uint64_t host_waits = 0;   // blocking synchronisations with the GPU
  std::uint64_t allocations = 0;  // cudaMalloc, cudaHostAlloc, cudaHostRegister
  double pinning_seconds = 0;     // faulting in and pinning host memory, summed over the threads that did it
};
DeviceCallCounts device_call_counts();

}  // namespace flexgen
