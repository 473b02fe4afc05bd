// File I/O by io_uring: one ring per queue, as many requests in flight as the ring has entries.
#include <fmt/core.h>
#include <liburing.h>

#include <cerrno>

#include "base/error.hpp"
#include "storage/block_io_queue.hpp"

namespace flexgen {
namespace {

class Ring {
 public:
  Ring() = default;
  ~Ring() {
    if (open_) io_uring_queue_exit(&ring_);
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  /// 0 or an errno.
  int open(int depth) {
    const int result = io_uring_queue_init(static_cast<unsigned>(depth), &ring_, 0);
    open_ = result == 0;
    return -result;
  }
  io_uring* get() { return &ring_; }

 private:
  io_uring ring_{};
  bool open_ = false;
};

class UringQueue : public BlockIoQueue {
 public:
  explicit UringQueue(int depth) : BlockIoQueue(depth) {}

  /// Empty when the kernel has all that is needed, else why not.
  std::string open(int depth) {
    if (const int error_number = ring_.open(depth)) {
      return fmt::format("io_uring is refused here: {}", errno_text(error_number));
    }
    io_uring_probe* probe = io_uring_get_probe_ring(ring_.get());
    const bool capable =
        probe && io_uring_opcode_supported(probe, IORING_OP_READ) && io_uring_opcode_supported(probe, IORING_OP_WRITE);
    if (probe) io_uring_free_probe(probe);
    return capable ? std::string() : "io_uring of this kernel lacks plain reads and writes (Linux 5.6 has them)";
  }

  std::string_view name() const override { return "io_uring"; }

 private:
  void submit(IoBlock& block) override {
    io_uring_sqe* entry = io_uring_get_sqe(ring_.get());
    FLEXGEN_CHECK(entry, "the submission ring is full");
    if (block.write) {
      io_uring_prep_write(entry, block.fd, block.next_data(), block.next_size_bytes(), block.next_offset_bytes());
    } else {
      io_uring_prep_read(entry, block.fd, block.next_data(), block.next_size_bytes(), block.next_offset_bytes());
    }
    io_uring_sqe_set_data(entry, &block);
  }

  void wait(std::vector<Completion>& completions) override {
    while (completions.empty()) {
      const int result = io_uring_submit_and_wait(ring_.get(), 1);
      // Interrupted, or short of kernel memory until something completes: look at the completions, then try again.
      if (result < 0 && result != -EINTR && result != -EAGAIN && result != -EBUSY) {
        throw SystemError(ExitCode::file, "io_uring_enter", errno_text(-result));
      }
      unsigned head = 0;
      unsigned num_seen = 0;
      io_uring_cqe* entry = nullptr;
      io_uring_for_each_cqe(ring_.get(), head, entry) {
        completions.push_back({static_cast<IoBlock*>(io_uring_cqe_get_data(entry)), entry->res});
        ++num_seen;
      }
      io_uring_cq_advance(ring_.get(), num_seen);
    }
  }

  Ring ring_;
};

}  // namespace

std::unique_ptr<IoQueue> IoQueue::make_uring(int depth, std::string& refusal) {
  auto queue = std::make_unique<UringQueue>(depth);
  refusal = queue->open(depth);
  if (!refusal.empty()) return nullptr;
  return queue;
}

}  // namespace flexgen
