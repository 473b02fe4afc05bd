// A stream of a lane together with what moves its bytes: tasks are handed the transfer. Beside the computation with
// overlap on; with overlap off in the caller, and then every call has ended, on the GPU too, before the next begins.
//
// Owned by a lane and called by the executor's thread. Its destructor finishes what was posted, so it is the last
// member of its owner and dies before anything that the tasks use.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "device/stream.hpp"
#include "engine/surroundings.hpp"
#include "engine/transfer.hpp"
#include "spec/policy.hpp"

namespace flexgen {

/// How streams beside the computation work.
inline Stream::Mode side_mode(const StagePolicy& policy) {
  return policy.overlap ? Stream::Mode::threaded : Stream::Mode::inline_tasks;
}

class TransferStream {
 public:
  /// @param staging  none: it never goes to or comes from the disk
  TransferStream(std::string name, Stream::Mode mode, const Surroundings& around, std::optional<DiskStaging> staging)
      : stream_(std::move(name), mode, around.device, &around.tracer), transfer_(stream_, std::move(staging)) {
    stream_.set_error_handler(around.on_stream_error);
  }
  ~TransferStream() { stream_.stop(); }  // tasks use the transfer, which dies first
  TransferStream(const TransferStream&) = delete;
  TransferStream& operator=(const TransferStream&) = delete;

  /// Appends task(Transfer&).
  template <class Task>
  void post(Task task) {
    stream_.post([this, task = std::move(task)] { task(transfer_); });
  }
  void wait(const EventPtr& event) { stream_.wait(event); }
  EventPtr record() { return stream_.record(); }
  /// After the last of what belongs to one call of the schedule.
  void end_call() {
    if (stream_.mode() == Stream::Mode::inline_tasks) stream_.synchronize();
  }
  void synchronize() { stream_.synchronize(); }

 private:
  Stream stream_;
  Transfer transfer_;
};

}  // namespace flexgen
