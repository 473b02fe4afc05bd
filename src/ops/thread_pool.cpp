#include "ops/thread_pool.hpp"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "base/processors.hpp"
#include "ops/threads.hpp"

namespace flexgen {
namespace {

constexpr int kPauses = 100;  // some microseconds
constexpr int kYields = 10;   // lets others have the processor before we go to sleep

thread_local bool inside_loop = false;

}  // namespace

SerialLoops::SerialLoops() : before_(std::exchange(inside_loop, true)) {}
SerialLoops::~SerialLoops() { inside_loop = before_; }

namespace {

void pause_processor() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Returns when `value` is no longer `old`.
void wait_for_change(const std::atomic<std::uint32_t>& value, std::uint32_t old) {
  for (int i = 0; i < kPauses; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    pause_processor();
  }
  for (int i = 0; i < kYields; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    std::this_thread::yield();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int num_threads) : num_threads_(std::max(1, num_threads)) {}

ThreadPool::~ThreadPool() {
  const std::lock_guard lock(in_use_);
  stop_workers();
}

void ThreadPool::resize(int num_threads) { num_threads_.store(std::max(1, num_threads), std::memory_order_relaxed); }

void ThreadPool::pin(std::vector<int> processors) {
  const std::lock_guard lock(in_use_);
  stop_workers();
  processors_ = std::move(processors);
}

void ThreadPool::run(std::int64_t num_tasks, Call call, const void* body) {
  const bool countable = num_tasks <= std::numeric_limits<std::uint32_t>::max();
  std::unique_lock lock(in_use_, std::defer_lock);
  if (inside_loop || num_tasks <= 1 || !countable || num_threads() == 1 || !lock.try_lock()) {
    for (std::int64_t task = 0; task < num_tasks; ++task) call(body, task);
    return;
  }
  const int num_workers = num_threads() - 1;
  if (static_cast<std::size_t>(num_workers) != workers_.size()) {
    stop_workers();
    start_workers(num_workers);
  }
  num_tasks_.store(num_tasks, std::memory_order_relaxed);
  call_.store(call, std::memory_order_relaxed);
  body_.store(body, std::memory_order_relaxed);
  const auto count = static_cast<std::uint32_t>(num_tasks);
  unfinished_.store(count, std::memory_order_relaxed);
  const std::uint64_t loop = (unclaimed_.load(std::memory_order_relaxed) >> 32) + 1;
  unclaimed_.store(loop << 32 | count, std::memory_order_release);
  wake(num_tasks - 1);
  inside_loop = true;
  take_tasks();
  inside_loop = false;
  while (const std::uint32_t left = unfinished_.load(std::memory_order_acquire)) wait_for_change(unfinished_, left);
}

void ThreadPool::take_tasks() {
  std::uint64_t seen = unclaimed_.load(std::memory_order_acquire);
  while (static_cast<std::uint32_t>(seen) != 0) {
    const std::int64_t task = num_tasks_.load(std::memory_order_relaxed) - static_cast<std::uint32_t>(seen);
    const Call call = call_.load(std::memory_order_relaxed);
    const void* body = body_.load(std::memory_order_relaxed);
    if (!unclaimed_.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel, std::memory_order_acquire))
      continue;
    call(body, task);
    if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_one();
    seen = unclaimed_.load(std::memory_order_acquire);
  }
}

void ThreadPool::work(std::uint32_t bell, int processor) {
  pthread_setname_np(pthread_self(), "ops loop");  // else it would bear the name of the thread that came first
  if (processor >= 0) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<std::size_t>(processor), &one);
    pthread_setaffinity_np(pthread_self(), sizeof one, &one);  // refused: it runs anywhere
  }
  inside_loop = true;
  while (!stopping_.load(std::memory_order_acquire)) {
    take_tasks();
    wait_for_change(bell_, bell);
    bell = bell_.load(std::memory_order_acquire);
  }
}

void ThreadPool::wake(std::int64_t num_workers) {
  bell_.fetch_add(1, std::memory_order_acq_rel);
  if (num_workers >= static_cast<std::int64_t>(workers_.size())) {
    bell_.notify_all();
    return;
  }
  for (std::int64_t i = 0; i < num_workers; ++i) bell_.notify_one();
}

void ThreadPool::start_workers(int num_workers) {
  stopping_.store(false, std::memory_order_relaxed);
  const std::uint32_t bell = bell_.load(std::memory_order_relaxed);
  workers_.reserve(static_cast<std::size_t>(num_workers));
  for (int i = 0; i < num_workers; ++i) {
    const int processor = processors_.empty() ? -1 : processors_[static_cast<std::size_t>(i) % processors_.size()];
    workers_.emplace_back([this, bell, processor] { work(bell, processor); });
  }
}

void ThreadPool::stop_workers() {
  stopping_.store(true, std::memory_order_release);
  wake(static_cast<std::int64_t>(workers_.size()));
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
}

ThreadPool& loop_threads() {
  static ThreadPool pool(num_available_processors());
  return pool;
}

}  // namespace flexgen
