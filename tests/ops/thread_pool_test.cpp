#include "ops/thread_pool.hpp"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <thread>
#include <vector>

#include "ops/linear.hpp"
#include "ops/parallel_for.hpp"
#include "ops/threads.hpp"
#include "tests/support/device_fixture.hpp"

namespace flexgen::test {
namespace {

template <class Body>
void run(ThreadPool& pool, std::int64_t num_tasks, const Body& body) {
  pool.run(
      num_tasks, [](const void* function, std::int64_t task) { (*static_cast<const Body*>(function))(task); }, &body);
}

TEST(ThreadPool, EveryTaskRunsOnce) {
  ThreadPool pool(4);
  for (const std::int64_t num_tasks : {0, 1, 2, 3, 4, 5, 100, 1000}) {
    std::vector<std::atomic<int>> runs(static_cast<std::size_t>(num_tasks));
    run(pool, num_tasks, [&](std::int64_t task) { ++runs[static_cast<std::size_t>(task)]; });
    for (const std::atomic<int>& count : runs) EXPECT_EQ(count, 1);
  }
}

TEST(ThreadPool, PinnedWorkersHaveAProcessorEach) {
  cpu_set_t allowed;
  ASSERT_EQ(sched_getaffinity(0, sizeof allowed, &allowed), 0);
  int processor = 0;
  while (!CPU_ISSET(static_cast<std::size_t>(processor), &allowed)) ++processor;
  ThreadPool pool(3);
  pool.pin({processor});
  const std::thread::id caller = std::this_thread::get_id();
  std::atomic<int> strayed = 0;
  run(pool, 64, [&](std::int64_t) {
    if (std::this_thread::get_id() == caller) {
      std::this_thread::yield();
      return;
    }
    cpu_set_t own;
    CPU_ZERO(&own);
    sched_getaffinity(0, sizeof own, &own);
    strayed += CPU_COUNT(&own) != 1 || !CPU_ISSET(static_cast<std::size_t>(processor), &own);
  });
  EXPECT_EQ(strayed, 0);
  cpu_set_t after;
  ASSERT_EQ(sched_getaffinity(0, sizeof after, &after), 0);
  EXPECT_TRUE(CPU_EQUAL(&allowed, &after)) << "the caller is left alone";
}

TEST(ThreadPool, ShortLoopsInARowDoNotMixUp) {  // workers that wake late meet later loops
  ThreadPool pool(3);
  for (int loop = 0; loop < 5000; ++loop) {
    const std::int64_t num_tasks = 2 + loop % 7;
    std::int64_t written[8] = {};  // plain memory: run() orders all of it before its return
    run(pool, num_tasks, [&](std::int64_t task) { written[task] = loop + task + 1; });
    for (std::int64_t task = 0; task < 8; ++task) ASSERT_EQ(written[task], task < num_tasks ? loop + task + 1 : 0);
  }
}

TEST(ThreadPool, WorkersTakePart) {
  ThreadPool pool(2);
  std::atomic<int> inside = 0;
  run(pool, 2, [&](std::int64_t) {  // each of the two tasks waits for the other: one thread alone would never return
    ++inside;
    while (inside < 2) std::this_thread::yield();
  });
  EXPECT_EQ(inside, 2);
}

TEST(ThreadPool, LoopsInsideLoopsRunSerially) {
  ThreadPool pool(4);
  std::atomic<int> count = 0;
  run(pool, 8, [&](std::int64_t) {
    const std::thread::id self = std::this_thread::get_id();
    run(pool, 8, [&](std::int64_t) {
      EXPECT_EQ(std::this_thread::get_id(), self);
      ++count;
    });
  });
  EXPECT_EQ(count, 64);
}

TEST(ThreadPool, SeveralCallers) {
  ThreadPool pool(3);
  std::vector<std::int64_t> sums(4);
  std::vector<std::thread> callers;
  for (std::int64_t& sum : sums) {
    callers.emplace_back([&pool, &sum] {
      for (int loop = 0; loop < 200; ++loop) {
        std::atomic<std::int64_t> total = 0;
        run(pool, 20, [&](std::int64_t task) { total += task; });
        sum += total;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  for (const std::int64_t sum : sums) EXPECT_EQ(sum, 200 * 190);
}

TEST(ThreadPool, ResizesBetweenLoops) {
  ThreadPool pool(2);
  for (const int num_threads : {1, 5, 2, 0, 3}) {
    pool.resize(num_threads);
    EXPECT_EQ(pool.num_threads(), std::max(1, num_threads));
    std::atomic<int> count = 0;
    run(pool, 50, [&](std::int64_t) { ++count; });
    EXPECT_EQ(count, 50);
  }
}

TEST(Threads, ResultsDoNotDependOnTheirNumber) {
  const int before = num_loop_threads();
  for (const std::int64_t tokens : {1, 7, 130}) {
    HostMatrix x = HostMatrix::random(tokens, 300, DType::float32, 1, 1.0F);
    HostMatrix weight = HostMatrix::random(333, 300, DType::float32, 2, 1.0F);
    std::vector<HostMatrix> results;
    for (const int num_threads : {1, 2, 3, 8}) {
      set_num_loop_threads(num_threads);
      HostMatrix out = HostMatrix::random(tokens, 333, DType::float32, 3, 1.0F);
      LinearArgs args;
      args.x = x.view();
      args.weight = weight.view();
      args.out = out.view();
      linear({}, args);
      results.push_back(out);
    }
    for (const HostMatrix& result : results) {
      for (std::int64_t i = 0; i < tokens; ++i)
        for (std::int64_t j = 0; j < 333; ++j) ASSERT_EQ(result.at(i, j), results[0].at(i, j));
    }
  }
  set_num_loop_threads(before);
}

}  // namespace
}  // namespace flexgen::test
