#include "storage/io_queue.hpp"

#include <fmt/core.h>

#include <algorithm>

#include "base/log.hpp"

namespace flexgen {
namespace {

class SpanSource : public IoSource {
 public:
  SpanSource(std::span<const IoRequest> requests, const std::function<void(std::size_t)>& on_done)
      : requests_(requests), on_done_(on_done) {}

  bool next(IoRequest& request, std::uint64_t& tag) override {
    if (next_ == requests_.size()) return false;
    tag = next_;
    request = requests_[next_++];
    return true;
  }
  void done(std::uint64_t tag) override {
    if (on_done_) on_done_(static_cast<std::size_t>(tag));
  }

 private:
  std::span<const IoRequest> requests_;
  const std::function<void(std::size_t)>& on_done_;
  std::size_t next_ = 0;
};

}  // namespace

void IoQueue::run(std::span<const IoRequest> requests, const std::function<void(std::size_t)>& on_done) {
  SpanSource source(requests, on_done);
  run_source(source);
}

std::unique_ptr<IoQueue> IoQueue::make(int depth) {
  std::string refusal;
  if (auto queue = make_uring(depth, refusal)) return queue;
  log::debug(fmt::format("file I/O by pread threads: {}", refusal));
  return make_pread(std::clamp(depth / 8, 1, 8));
}

}  // namespace flexgen
