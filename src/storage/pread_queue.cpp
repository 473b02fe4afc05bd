// File I/O by a pool of threads that call pread and pwrite: works wherever files do.
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "base/error.hpp"
#include "storage/block_io_queue.hpp"

namespace flexgen {
namespace {

class PreadQueue : public BlockIoQueue {
 public:
  // Twice as many blocks as threads: a thread finds its next block without waiting for the caller.
  explicit PreadQueue(int num_threads) : BlockIoQueue(2 * num_threads) {
    try {
      for (int i = 0; i < num_threads; ++i) threads_.emplace_back([this] { work(); });
    } catch (...) {
      stop();
      throw;
    }
  }
  ~PreadQueue() override { stop(); }

  std::string_view name() const override { return "pread"; }

 private:
  void submit(IoBlock& block) override {
    {
      std::lock_guard lock(mutex_);
      waiting_.push_back(&block);
    }
    has_work_.notify_one();
  }

  void wait(std::vector<Completion>& completions) override {
    std::unique_lock lock(mutex_);
    has_ended_.wait(lock, [this] { return !ended_.empty(); });
    completions.insert(completions.end(), ended_.begin(), ended_.end());
    ended_.clear();
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      has_work_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
      if (stopping_) return;
      IoBlock* block = waiting_.front();
      waiting_.pop_front();
      lock.unlock();
      const std::int64_t result = transfer(*block);
      lock.lock();
      ended_.push_back({block, result});
      has_ended_.notify_one();
    }
  }

  static std::int64_t transfer(const IoBlock& block) {
    const auto offset = static_cast<off_t>(block.next_offset_bytes());
    const ssize_t count = block.write ? ::pwrite(block.fd, block.next_data(), block.next_size_bytes(), offset)
                                      : ::pread(block.fd, block.next_data(), block.next_size_bytes(), offset);
    return count < 0 ? -static_cast<std::int64_t>(errno) : count;
  }

  void stop() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    has_work_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  std::mutex mutex_;
  std::condition_variable has_work_;
  std::condition_variable has_ended_;
  std::deque<IoBlock*> waiting_;
  std::vector<Completion> ended_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<IoQueue> IoQueue::make_pread(int num_threads) {
  FLEXGEN_CHECK(num_threads > 0, "a pread pool needs at least 1 thread");
  return std::make_unique<PreadQueue>(num_threads);
}

}  // namespace flexgen
