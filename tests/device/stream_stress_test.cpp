// Many streams, events and errors at once: for the thread sanitizer, and for deadlocks.
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

#include "device/stream.hpp"

namespace flexgen::test {
namespace {

using Mode = Stream::Mode;

// A slot is filled by the loader, read by the computer, emptied by the storer, in plain memory ordered by events alone.
TEST(StreamStress, APipelineOverTwoSlots) {
  for (int round = 0; round < 5; ++round) {
    constexpr int num_steps = 400;
    constexpr std::size_t num_slots = 2;
    Tracer tracer;
    int slots[num_slots] = {};
    int results[num_slots] = {};
    std::vector<int> stored;
    Stream load("load", Mode::threaded, Device{}, &tracer);
    Stream compute("compute", round % 2 == 0 ? Mode::inline_tasks : Mode::threaded, Device{}, &tracer);
    Stream store("store", Mode::threaded, Device{}, &tracer);
    EventPtr computed[num_slots];
    EventPtr written[num_slots];
    for (int step = 0; step < num_steps; ++step) {
      const auto s = static_cast<std::size_t>(step) % num_slots;
      load.wait(computed[s]);
      load.post([&slots, &load, s, step] {
        const StreamSpan span(load, Resource::host_to_gpu, "load", 1);
        slots[s] = step;
      });
      compute.wait(load.record());
      compute.wait(written[s]);
      compute.post([&slots, &results, s] { results[s] = slots[s] * 3; });
      computed[s] = compute.record();
      store.wait(computed[s]);
      store.post([&stored, &results, s] { stored.push_back(results[s]); });
      written[s] = store.record();
    }
    store.synchronize();
    ASSERT_EQ(stored.size(), static_cast<std::size_t>(num_steps));
    for (int step = 0; step < num_steps; ++step) ASSERT_EQ(stored[static_cast<std::size_t>(step)], step * 3);
    EXPECT_EQ(tracer.totals()[static_cast<std::size_t>(Resource::host_to_gpu)].bytes,
              static_cast<std::uint64_t>(num_steps));
  }
}

TEST(StreamStress, ManyProducersOneStream) {
  Stream stream("shared", Mode::threaded, Device{});
  int sum = 0;  // touched by the worker alone
  std::vector<std::thread> producers;
  for (int p = 0; p < 4; ++p)
    producers.emplace_back([&] {
      for (int i = 0; i < 300; ++i) {
        stream.post([&sum] { ++sum; });
        if (i % 50 == 0) stream.record()->synchronize();
      }
    });
  for (std::thread& producer : producers) producer.join();
  stream.synchronize();
  EXPECT_EQ(sum, 1200);
}

TEST(StreamStress, ErrorsAnywhereNeverHang) {
  std::mt19937 random(7);
  for (int round = 0; round < 60; ++round) {
    std::atomic<int> handled{0};
    bool failed = false;
    {
      std::vector<std::unique_ptr<Stream>> streams;
      for (int s = 0; s < 3; ++s) {
        streams.push_back(std::make_unique<Stream>("s", Mode::threaded, Device{}));
        streams.back()->set_error_handler([&](std::exception_ptr) { ++handled; });
      }
      const unsigned bad_step = random() % 60;
      EventPtr last;
      for (unsigned step = 0; step < 60; ++step) {
        Stream& stream = *streams[random() % streams.size()];
        if (step > 0) stream.wait(last);
        stream.post([step, bad_step] {
          if (step == bad_step) throw std::runtime_error("bad step");
        });
        last = stream.record();
      }
      try {
        last->synchronize();
      } catch (const std::runtime_error&) {
        failed = true;
      }
    }
    EXPECT_TRUE(failed) << "the chain goes through every step, so its end must know of the error";
    EXPECT_GE(handled, 1);
    EXPECT_LE(handled, 3);
  }
}

TEST(StreamStress, StreamsComeAndGo) {
  for (int i = 0; i < 200; ++i) {
    EventPtr event;
    Stream waiter("waiter", Mode::threaded, Device{});
    {
      Stream stream("brief", Mode::threaded, Device{});
      stream.post([] {});
      event = stream.record();
      waiter.wait(event);
    }
    waiter.synchronize();
  }
}

}  // namespace
}  // namespace flexgen::test
