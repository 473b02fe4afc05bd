#include "device/stream.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <stdexcept>
#include <thread>
#include <vector>

#include "device/buffer.hpp"

namespace flexgen::test {
namespace {

using namespace std::chrono_literals;
using Mode = Stream::Mode;
constexpr Mode every_mode[] = {Mode::inline_tasks, Mode::threaded};

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// What a call threw: its text, or "" when it threw nothing.
template <class Call>
std::string thrown_by(const Call& call) {
  try {
    call();
  } catch (const Failure& failure) {
    return failure.what();
  }
  return "";
}

TEST(Stream, RunsTasksInOrder) {
  for (const Mode mode : every_mode) {
    std::vector<int> done;
    Stream stream("order", mode, Device{});
    for (int i = 0; i < 100; ++i) stream.post([&done, i] { done.push_back(i); });
    stream.synchronize();
    ASSERT_EQ(done.size(), 100U);
    for (int i = 0; i < 100; ++i) EXPECT_EQ(done[static_cast<std::size_t>(i)], i);
    EXPECT_EQ(stream.mode(), mode);
    EXPECT_EQ(stream.native(), nullptr);
    EXPECT_FALSE(stream.device().is_cuda());
  }
}

TEST(Stream, InlineTasksRunInTheCallerThreadedOnesDoNot) {
  std::thread::id ran_in;
  Stream direct("inline", Mode::inline_tasks, Device{});
  direct.post([&] { ran_in = std::this_thread::get_id(); });
  EXPECT_EQ(ran_in, std::this_thread::get_id());
  Stream threaded("a name longer than a thread may have", Mode::threaded, Device{});
  threaded.post([&] { ran_in = std::this_thread::get_id(); });
  threaded.synchronize();
  EXPECT_NE(ran_in, std::this_thread::get_id());
}

TEST(Stream, PostDoesNotWaitForTheTask) {
  Stream stream("gate", Mode::threaded, Device{});
  std::promise<void> gate;
  std::atomic<bool> done{false};
  stream.post([&, opened = gate.get_future().share()] {
    opened.wait();
    done = true;
  });
  const EventPtr event = stream.record();
  EXPECT_FALSE(event->complete());
  EXPECT_FALSE(done);
  gate.set_value();
  event->synchronize();
  EXPECT_TRUE(done);
  EXPECT_TRUE(event->complete());
}

TEST(Stream, EventsOrderStreamsAgainstEachOther) {
  for (const Mode first_mode : every_mode)
    for (const Mode second_mode : every_mode) {
      Stream first("first", first_mode, Device{});
      Stream second("second", second_mode, Device{});
      int value = 0;
      int seen = -1;
      first.post([&] {
        std::this_thread::sleep_for(2ms);
        value = 1;
      });
      second.wait(first.record());
      second.post([&] { seen = value; });
      second.synchronize();
      EXPECT_EQ(seen, 1);
    }
}

TEST(Stream, AWaitHoldsBackOnlyWhatIsPostedLater) {
  Stream first("first", Mode::threaded, Device{});
  Stream second("second", Mode::threaded, Device{});
  std::promise<void> gate;
  first.post([opened = gate.get_future().share()] { opened.wait(); });
  std::promise<void> before;
  second.post([&] { before.set_value(); });
  second.wait(first.record());
  std::atomic<bool> after{false};
  second.post([&] { after = true; });
  before.get_future().wait();
  EXPECT_FALSE(after);
  gate.set_value();
  second.synchronize();
  EXPECT_TRUE(after);
}

TEST(Stream, WaitingForNothingIsFine) {
  for (const Mode mode : every_mode) {
    Stream stream("null", mode, Device{});
    stream.wait(nullptr);
    stream.wait(stream.record());
    EXPECT_NO_THROW(stream.synchronize());
  }
}

TEST(Stream, AnEventMayBeAwaitedByManyAndOutliveItsStream) {
  EventPtr event;
  {
    Stream stream("short", Mode::threaded, Device{});
    stream.post([] {});
    event = stream.record();
  }
  EXPECT_TRUE(event->complete());
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back([event] { event->synchronize(); });
  for (std::thread& thread : threads) thread.join();
}

TEST(Stream, AThrowingTaskPoisonsAThreadedStream) {
  Stream stream("poison", Mode::threaded, Device{});
  const EventPtr before = stream.record();
  bool ran_later = false;
  stream.post([] { throw Failure("first"); });
  stream.post([] { throw Failure("second"); });
  stream.post([&] { ran_later = true; });
  const EventPtr after = stream.record();
  EXPECT_EQ(thrown_by([&] { after->synchronize(); }), "first");
  EXPECT_EQ(thrown_by([&] { stream.synchronize(); }), "first");
  EXPECT_EQ(thrown_by([&] { stream.synchronize(); }), "first") << "an error does not wear off";
  EXPECT_EQ(thrown_by([&] { before->synchronize(); }), "") << "what was recorded before the error is sound";
  EXPECT_TRUE(after->complete());
  EXPECT_FALSE(ran_later);
}

TEST(Stream, AnErrorTravelsAlongEvents) {
  Stream first("first", Mode::threaded, Device{});
  Stream second("second", Mode::threaded, Device{});
  Stream third("third", Mode::inline_tasks, Device{});
  first.post([] { throw Failure("disk"); });
  second.wait(first.record());
  bool ran = false;
  second.post([&] { ran = true; });
  const EventPtr event = second.record();
  EXPECT_EQ(thrown_by([&] { third.wait(event); }), "disk") << "an inline stream waits in the caller";
  EXPECT_EQ(thrown_by([&] { second.synchronize(); }), "disk");
  EXPECT_FALSE(ran);
}

TEST(Stream, InlineErrorsReachTheCallerAtOnce) {
  Stream stream("inline", Mode::inline_tasks, Device{});
  EXPECT_EQ(thrown_by([&] { stream.post([] { throw Failure("here"); }); }), "here");
  EXPECT_NO_THROW(stream.synchronize());
}

TEST(Stream, TheErrorHandlerHearsOfTheFirstErrorOnly) {
  Stream stream("handler", Mode::threaded, Device{});
  std::vector<std::string> heard;
  stream.set_error_handler(
      [&](std::exception_ptr error) { heard.push_back(thrown_by([&] { std::rethrow_exception(error); })); });
  stream.post([] {});
  stream.post([] { throw Failure("first"); });
  stream.post([] { throw Failure("second"); });
  EXPECT_EQ(thrown_by([&] { stream.synchronize(); }), "first");
  EXPECT_EQ(heard, std::vector<std::string>{"first"});
}

TEST(Stream, StopFinishesWhatWasPosted) {
  std::atomic<int> done{0};
  Stream stream("stop", Mode::threaded, Device{});
  for (int i = 0; i < 20; ++i)
    stream.post([&] {
      std::this_thread::sleep_for(100us);
      ++done;
    });
  const EventPtr event = stream.record();
  stream.stop();
  EXPECT_EQ(done, 20);
  EXPECT_TRUE(event->complete());
  EXPECT_NO_THROW(stream.stop());
  Stream direct("stop", Mode::inline_tasks, Device{});
  EXPECT_NO_THROW(direct.stop());
}

TEST(Stream, DestructionFinishesWhatWasPostedAndDropsErrors) {
  std::atomic<int> done{0};
  {
    Stream stream("end", Mode::threaded, Device{});
    for (int i = 0; i < 10; ++i) stream.post([&] { ++done; });
    stream.post([] { throw Failure("nobody waits"); });
  }
  EXPECT_EQ(done, 10);
}

TEST(Stream, CopiesAreDoneAndCounted) {
  for (const Mode mode : every_mode) {
    Tracer tracer(true);
    Stream stream("copy", mode, Device{}, &tracer);
    std::vector<std::byte> from(1000);
    std::vector<std::byte> to(1000);
    for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::byte>(i);
    stream.post([&] {
      stream.copy(to.data(), from.data(), from.size(), Resource::host_to_gpu, "weights 3");
      stream.copy(to.data(), from.data(), 0, Resource::host_to_gpu, "nothing");
    });
    stream.synchronize();
    EXPECT_EQ(from, to);
    const ResourceTotals total = tracer.totals()[static_cast<std::size_t>(Resource::host_to_gpu)];
    EXPECT_EQ(total.bytes, 1000U);
    EXPECT_EQ(total.count, 1U) << "an empty copy is none";
    ASSERT_EQ(tracer.events().size(), 1U);
    EXPECT_EQ(tracer.events()[0].name, "weights 3");
    EXPECT_LE(tracer.events()[0].begin_ns, tracer.events()[0].end_ns);
    EXPECT_EQ(stream.tracer(), &tracer);
  }
}

// The last copies of a job are in its report and its trace.
TEST(Stream, SynchronizeReadsTheSpansOfAGpuToTheLast) {
  if (num_cuda_devices() == 0) GTEST_SKIP() << "needs a GPU";
  const Device gpu{DeviceKind::cuda, 0};
  for (const Mode mode : every_mode) {
    Tracer tracer;
    Stream stream("copy", mode, gpu, &tracer);
    const Buffer to(MemoryKind::device, 1000, gpu), from(MemoryKind::pinned, 1000, gpu);
    for (int i = 0; i < 5; ++i)
      stream.post([&] { stream.copy(to.data(), from.data(), 1000, Resource::host_to_gpu, "weights"); });
    stream.synchronize();
    EXPECT_EQ(tracer.totals()[static_cast<std::size_t>(Resource::host_to_gpu)].bytes, 5000U);
  }
}

TEST(Stream, SpansCoverTheirScope) {
  Tracer tracer(true);
  Stream stream("span", Mode::threaded, Device{}, &tracer);
  stream.post([&] {
    const StreamSpan span(stream, Resource::compute, "layer 0 micro-batch 1", 3);
    std::this_thread::sleep_for(2ms);
  });
  stream.synchronize();
  ASSERT_EQ(tracer.events().size(), 1U);
  const TraceEvent event = tracer.events()[0];
  EXPECT_EQ(event.name, "layer 0 micro-batch 1");
  EXPECT_EQ(event.resource, Resource::compute);
  EXPECT_EQ(event.bytes, 3U);
  EXPECT_GE(event.end_ns - event.begin_ns, 2'000'000U);

  Stream silent("silent", Mode::inline_tasks, Device{});
  { const StreamSpan span(silent, Resource::compute, "unseen"); }
  EXPECT_EQ(silent.tracer(), nullptr);
}

TEST(Stream, AnEventRecordedInATaskOrdersWhatTheTaskHasDone) {
  Stream first("first", Mode::threaded, Device{});
  Stream second("second", Mode::threaded, Device{});
  int value = 0;
  std::promise<EventPtr> recorded;
  first.post([&] {
    value = 1;
    recorded.set_value(first.record_in_task());
    std::this_thread::sleep_for(1ms);
  });
  const EventPtr event = recorded.get_future().get();
  EXPECT_TRUE(event->complete());
  int seen = 0;
  second.wait(event);
  second.post([&] { seen = value; });
  second.synchronize();
  EXPECT_EQ(seen, 1);
}

TEST(DeviceCalls, TheHostNeedsNone) {
  const DeviceCallCounts before = device_call_counts();
  Stream stream("calls", Mode::threaded, Device{});
  stream.post([] {});
  stream.synchronize();
  EXPECT_EQ(device_call_counts().host_waits, before.host_waits);
  EXPECT_EQ(device_call_counts().allocations, before.allocations);
}

}  // namespace
}  // namespace flexgen::test
