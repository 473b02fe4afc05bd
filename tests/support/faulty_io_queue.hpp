// An IoQueue that fails one request of its life with a given errno; all others pass through to the inner queue.
//
// The failure is raised where the inner queue asks for the request, so what is in flight is drained as in a real one.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include "storage/io_error.hpp"
#include "storage/io_queue.hpp"

namespace flexgen::test {

class FaultyIoQueue : public IoQueue {
 public:
  /// Fails the `failing_request`-th request (counted from 0 over all runs).
  FaultyIoQueue(std::unique_ptr<IoQueue> inner, std::uint64_t failing_request, int error_number)
      : inner_(std::move(inner)), failing_request_(failing_request), error_number_(error_number) {}

  void run_source(IoSource& source) override {
    FaultySource faulty(*this, source);
    inner_->run_source(faulty);
  }
  std::string_view name() const override { return inner_->name(); }

  std::uint64_t num_requests() const { return num_requests_; }

 private:
  class FaultySource : public IoSource {
   public:
    FaultySource(FaultyIoQueue& queue, IoSource& source) : queue_(queue), source_(source) {}

    bool next(IoRequest& request, std::uint64_t& tag) override {
      if (!source_.next(request, tag)) return false;
      if (queue_.num_requests_++ == queue_.failing_request_) {
        throw io_error(request.fd, request.write, request.offset_bytes, request.size_bytes, queue_.error_number_);
      }
      return true;
    }
    void done(std::uint64_t tag) override { source_.done(tag); }

   private:
    FaultyIoQueue& queue_;
    IoSource& source_;
  };

  std::unique_ptr<IoQueue> inner_;
  std::uint64_t failing_request_;
  int error_number_;
  std::uint64_t num_requests_ = 0;
};

}  // namespace flexgen::test
