#include "base/busy_time.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "base/trace.hpp"

namespace flexgen::test {
namespace {

TEST(BusyTime, CountsOverlapsOnce) {
  BusyTime busy;
  busy.add(10, 20);
  busy.add(15, 25);  // overlaps
  EXPECT_EQ(busy.total_ns(), 15U);
  busy.add(40, 50);
  busy.add(30, 40);  // touches, comes late
  EXPECT_EQ(busy.total_ns(), 35U);
  busy.add(0, 100);  // covers all
  EXPECT_EQ(busy.total_ns(), 100U);
  busy.add(5, 6);
  busy.add(7, 7);
  EXPECT_EQ(busy.total_ns(), 100U);
}

TEST(BusyTime, AgreesWithCountingEveryMoment) {
  std::mt19937 random(7);
  for (int round = 0; round < 20; ++round) {
    BusyTime busy;
    std::vector<bool> moments(400, false);
    for (int i = 0; i < 40; ++i) {
      const auto begin = static_cast<std::size_t>(random() % 380);
      const std::size_t end = begin + random() % 20;
      busy.add(begin, end);
      std::fill(moments.begin() + static_cast<long>(begin), moments.begin() + static_cast<long>(end), true);
      ASSERT_EQ(busy.total_ns(), static_cast<std::uint64_t>(std::count(moments.begin(), moments.end(), true)));
    }
  }
}

TEST(BusyTime, StaysExactOverManyGaps) {
  BusyTime busy;
  for (std::uint64_t i = 0; i < 100'000; ++i) {
    busy.add(10 * i, 10 * i + 3);
    if (i > 100) busy.add(10 * (i - 100) + 2, 10 * (i - 100) + 5);  // another lane, late
  }
  EXPECT_EQ(busy.total_ns(), 3U * 100'000 + 2U * (100'000 - 101));
}

TEST(TracePhases, SpansBelongToThePhaseTheyBeginIn) {
  const auto of = [](const TotalsByResource& totals) {
    return totals[static_cast<std::size_t>(Resource::host_to_gpu)];
  };
  Tracer tracer;
  tracer.record(Resource::host_to_gpu, "loading", 0, 50, 1);
  tracer.begin_phase(TracePhase::prefill, 100);
  tracer.begin_phase(TracePhase::decode, 200);
  tracer.begin_phase(TracePhase::prefill, 300);
  tracer.record(Resource::host_to_gpu, "a", 310, 320, 10);
  tracer.record(Resource::host_to_gpu, "b", 190, 220, 100);  // reported late
  tracer.record(Resource::host_to_gpu, "c", 200, 210, 1000);
  tracer.record(Resource::host_to_gpu, "d", 195, 215, 10'000);
  EXPECT_EQ(of(tracer.totals(TracePhase::prefill)).bytes, 10'110U);
  EXPECT_EQ(of(tracer.totals(TracePhase::prefill)).busy_ns, 60U);
  EXPECT_EQ(of(tracer.totals(TracePhase::prefill)).occupied_ns, 40U);
  EXPECT_EQ(of(tracer.totals(TracePhase::decode)).bytes, 1000U);
  EXPECT_EQ(of(tracer.totals(TracePhase::other)).bytes, 1U);
  EXPECT_EQ(of(tracer.totals()).bytes, 11'111U);
  EXPECT_EQ(of(tracer.totals()).count, 5U);
}

}  // namespace
}  // namespace flexgen::test
