// Loops over independent tasks on all processors (see thread_pool.hpp). Any thread; loops inside loops run serially.
#pragma once

#include <cstdint>

#include "ops/thread_pool.hpp"

namespace flexgen {

/// Calls body(i) for i in [0, num_tasks), each on some thread; returns when all are done. `body` must not throw.
/// `worth_it` false keeps the loop on the calling thread: waking threads costs some ten microseconds.
template <class Body>
void parallel_for(ThreadPool& pool, std::int64_t num_tasks, bool worth_it, const Body& body) {
  if (worth_it && num_tasks > 1) {
    pool.run(
        num_tasks, [](const void* function, std::int64_t task) { (*static_cast<const Body*>(function))(task); }, &body);
    return;
  }
  for (std::int64_t i = 0; i < num_tasks; ++i) body(i);
}
template <class Body>
void parallel_for(std::int64_t num_tasks, bool worth_it, const Body& body) {
  parallel_for(loop_threads(), num_tasks, worth_it, body);
}

/// Splits [0, count) into ranges of `grain` and calls body(first, length) for each.
template <class Body>
void parallel_ranges(std::int64_t count, std::int64_t grain, const Body& body) {
  const std::int64_t num_tasks = (count + grain - 1) / grain;
  parallel_for(num_tasks, num_tasks > 1, [&](std::int64_t task) {
    const std::int64_t first = task * grain;
    body(first, first + grain <= count ? grain : count - first);
  });
}

/// Number of threads that a loop started here would use.
inline int num_loop_threads() { return loop_threads().num_threads(); }

}  // namespace flexgen
