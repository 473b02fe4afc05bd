// Worker threads for loops over independent tasks.
//
// Every thread claims one task at a time, the caller included: a worker that the system has put aside holds up no
// more than the task it is in, and one that wakes late finds the loop done. Idle workers sleep; they spin for some
// microseconds only, so that a machine shared with other processes is not slowed down by waiting.
// Thread-safety: run() may be called from any thread. One loop runs at a time: a caller who finds the workers taken,
// or who is inside a loop already, runs its loop alone. The order of tasks among threads is not fixed.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace flexgen {

class ThreadPool {
 public:
  using Call = void (*)(const void* body, std::int64_t task);

  /// `num_threads` counts the caller of run(): num_threads - 1 workers are started.
  explicit ThreadPool(int num_threads);
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool();

  /// Calls call(body, i) for i in [0, num_tasks); returns when all calls have returned. `call` must not throw.
  void run(std::int64_t num_tasks, Call call, const void* body);

  /// Takes effect at the next loop.
  void resize(int num_threads);
  /// Workers started from now on stay on one of these processors each, in turn; empty: wherever the system puts them.
  /// Not beside a loop.
  void pin(std::vector<int> processors);
  int num_threads() const { return num_threads_.load(std::memory_order_relaxed); }

 private:
  void start_workers(int num_workers);
  void stop_workers();
  void work(std::uint32_t bell, int processor);
  void take_tasks();
  void wake(std::int64_t num_workers);

  std::atomic<int> num_threads_;
  std::mutex in_use_;  // held by the caller whose loop runs
  std::vector<std::thread> workers_;
  std::vector<int> processors_;
  std::atomic<bool> stopping_ = false;

  // The loop. `unclaimed_` is loop number << 32 | tasks nobody has claimed. A claim is a compare-and-swap on it, so it
  // succeeds only while that very loop has tasks left: then the caller still waits, and what was read from the fields
  // below belongs to the loop.
  alignas(64) std::atomic<std::uint64_t> unclaimed_ = 0;
  std::atomic<std::int64_t> num_tasks_ = 0;
  std::atomic<Call> call_ = nullptr;
  std::atomic<const void*> body_ = nullptr;
  alignas(64) std::atomic<std::uint32_t> unfinished_ = 0;
  alignas(64) std::atomic<std::uint32_t> bell_ = 0;  // changes when there may be work: what idle workers wait on
};

/// The process's pool: one thread per processor unless set_num_loop_threads() says otherwise.
ThreadPool& loop_threads();

}  // namespace flexgen
