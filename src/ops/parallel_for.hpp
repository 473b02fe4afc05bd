// Loops over independent tasks on all processors. OpenMP is what LibTorch's kernels use as well: one pool of threads.
#pragma once

#include <cstdint>

namespace flexgen {

#if defined(__SANITIZE_THREAD__)
#define FLEXGEN_SERIAL_LOOPS 1  // libgomp's barriers are invisible to the thread sanitizer
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FLEXGEN_SERIAL_LOOPS 1
#endif
#endif

/// Calls body(i) for i in [0, num_tasks), each on some thread; returns when all are done. `body` must not throw.
/// `worth_it` false keeps the loop on the calling thread: starting threads costs some ten microseconds.
template <class Body>
void parallel_for(std::int64_t num_tasks, bool worth_it, const Body& body) {
#if defined(_OPENMP) && !defined(FLEXGEN_SERIAL_LOOPS)
  if (worth_it && num_tasks > 1) {
#pragma omp parallel for schedule(dynamic, 1)
    for (std::int64_t i = 0; i < num_tasks; ++i) body(i);
    return;
  }
#endif
  static_cast<void>(worth_it);
  for (std::int64_t i = 0; i < num_tasks; ++i) body(i);
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
int num_loop_threads();

}  // namespace flexgen
