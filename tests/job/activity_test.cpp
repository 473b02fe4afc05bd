#include "job/activity.hpp"

#include <gtest/gtest.h>

#include <numeric>

#include "job/recent_pace.hpp"

namespace flexgen::test {
namespace {

/// Totals in which one resource was in use for so long.
TotalsByResource occupied(Resource resource, double seconds) {
  TotalsByResource totals{};
  totals[static_cast<std::size_t>(resource)].occupied_ns = static_cast<std::uint64_t>(seconds * 1e9);
  return totals;
}

TEST(Activity, SharesOfIntervals) {
  ActivitySeries series;
  series.add(1, occupied(Resource::compute, 3), 5, 50);  // loading was busy, too
  series.add(2, occupied(Resource::compute, 3.25), 6, 70);
  series.end(4, occupied(Resource::compute, 4.25), 10, 100);
  const ActivityReport report = series.report();
  EXPECT_EQ(report.seconds, (std::vector<double>{0, 1, 3}));
  ASSERT_EQ(report.busy.size(), 1U) << "others were never busy";
  EXPECT_EQ(report.busy.at("compute"), (std::vector<double>{0.25, 0.5}));
  EXPECT_EQ(report.rows, (std::vector<std::uint64_t>{1, 4}));
  EXPECT_EQ(report.tokens, (std::vector<std::uint64_t>{20, 30}));
}

TEST(Activity, AnOperationLongerThanAnIntervalFillsThoseBefore) {
  ActivitySeries series;
  for (int second = 0; second < 4; ++second) series.add(second, {}, 0, 0);
  series.end(4, occupied(Resource::disk_read, 2.5), 0, 0);
  EXPECT_EQ(series.report().busy.at("disk_read"), (std::vector<double>{0, 0.5, 1, 1}));
}

TEST(Activity, StaysSmallAndLosesNothing) {
  ActivitySeries series;
  double now = 0, compute = 0;
  std::uint64_t rows = 0;
  for (; now < 3600; now += 0.05) {
    if (!series.is_due(now)) continue;
    compute = now / 2;
    rows = static_cast<std::uint64_t>(now * 3);
    series.add(now, occupied(Resource::compute, compute), rows, 0);
  }
  series.end(now, occupied(Resource::compute, compute), rows, 0);
  const ActivityReport report = series.report();
  EXPECT_LE(report.rows.size(), ActivitySeries::most_intervals);
  EXPECT_GE(report.rows.size(), ActivitySeries::most_intervals / 2 - 1);
  EXPECT_EQ(std::accumulate(report.rows.begin(), report.rows.end(), std::uint64_t{0}), rows);
  double busy_seconds = 0;
  for (std::size_t i = 0; i < report.rows.size(); ++i)
    busy_seconds += report.busy.at("compute")[i] * (report.seconds[i + 1] - report.seconds[i]);
  EXPECT_NEAR(busy_seconds, compute, 1e-6);
  EXPECT_NEAR(report.seconds.back(), 3600, 1);
}

TEST(Activity, ALastMomentIsNoIntervalOfItsOwn) {
  ActivitySeries series;
  series.add(0, {}, 0, 0);
  series.add(0.05, {}, 1, 0);
  series.end(0.051, {}, 9, 0);
  EXPECT_EQ(series.report().rows, std::vector<std::uint64_t>{9});
  ActivitySeries one;
  one.add(0, {}, 0, 0);
  one.end(0.001, {}, 2, 0);
  EXPECT_EQ(one.report().rows, std::vector<std::uint64_t>{2}) << "unless it is all there is";
  EXPECT_TRUE(ActivitySeries().report().seconds.empty());
}

TEST(RecentPace, SeesTheLastTenSecondsAlone) {
  RecentPace pace;
  pace.add(0, 0, {});
  EXPECT_EQ(pace.tokens_per_second(), 0);
  EXPECT_FALSE(pace.busiest());
  for (int tick = 1; tick <= 100; ++tick) {  // 20 s at 100 tokens a second, computing
    const double now = 0.2 * tick;
    pace.add(now, static_cast<std::uint64_t>(100 * now), occupied(Resource::compute, now * 0.5));
  }
  EXPECT_NEAR(pace.tokens_per_second(), 100, 1);
  ASSERT_TRUE(pace.busiest());
  EXPECT_EQ(pace.busiest()->resource, Resource::compute);
  EXPECT_NEAR(pace.busiest()->fraction, 0.5, 0.01);
  for (int tick = 1; tick <= 60; ++tick) {  // 12 s at 10, on the disk
    const double now = 20 + 0.2 * tick;
    TotalsByResource totals = occupied(Resource::disk_read, (now - 20) * 2);
    totals[static_cast<std::size_t>(Resource::compute)].occupied_ns = 10'000'000'000;
    pace.add(now, static_cast<std::uint64_t>(2000 + 10 * (now - 20)), totals);
  }
  EXPECT_NEAR(pace.tokens_per_second(), 10, 0.5);
  ASSERT_TRUE(pace.busiest());
  EXPECT_EQ(pace.busiest()->resource, Resource::disk_read);
  EXPECT_EQ(pace.busiest()->fraction, 1) << "never more than all of the time";
}

}  // namespace
}  // namespace flexgen::test
