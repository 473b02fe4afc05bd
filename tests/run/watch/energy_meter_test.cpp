#include "run/watch/energy_meter.hpp"

#include <gtest/gtest.h>

#include <deque>
#include <filesystem>

#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

/// A counter that shows these readings, one after the other; below 0: it cannot be read.
EnergyCounter shows(std::deque<double> readings, double range_joules = 0) {
  return {"processor", "package-0",
          [readings = std::move(readings)]() mutable -> std::optional<double> {
            const double joules = readings.front();
            readings.pop_front();
            return joules < 0 ? std::nullopt : std::optional(joules);
          },
          range_joules};
}

double measured(EnergyCounter counter, int num_reads) {
  EnergyMeter meter({std::move(counter)});
  for (int i = 0; i < num_reads; ++i) meter.read();
  return meter.report("box").at(0).joules;
}

TEST(EnergyMeter, CountsFromItsBeginning) {
  EXPECT_EQ(measured(shows({1000, 1010, 1030}), 2), 30);
  EXPECT_EQ(measured(shows({1000, -1, 1030}), 2), 30) << "what cannot be read now is read later";
  EXPECT_EQ(measured(shows({90, 95, 5}, 100), 2), 15) << "it began anew";
  EXPECT_EQ(measured(shows({90, 95, 5}), 2), 5) << "it went back, nobody knows how far";
  EXPECT_TRUE(EnergyMeter({shows({-1})}).report("box").empty());
}

TEST(EnergyMeter, ReadsPackagesAlone) {
  const ScratchPlace folder;
  const auto zone = [&](const char* name, const char* label, const char* microjoules) {
    std::filesystem::create_directory(folder / name);
    folder.write(std::string(name) + "/name", std::string(label) + "\n");
    folder.write(std::string(name) + "/energy_uj", microjoules);
    folder.write(std::string(name) + "/max_energy_range_uj", "262143328850\n");
  };
  zone("intel-rapl:1", "package-1", "7000000\n");
  zone("intel-rapl:0", "package-0", "5000000\n");
  zone("intel-rapl:0:0", "core", "4000000\n");
  zone("intel-rapl:2", "psys", "9000000\n");
  zone("intel-rapl:3", "package-3", "");
  const std::vector<EnergyCounter> counters = rapl_counters(folder.path());
  ASSERT_EQ(counters.size(), 2U) << "parts and the whole board count twice";
  EXPECT_EQ(counters[0].name, "package-0");
  EXPECT_DOUBLE_EQ(counters[0].read_joules().value(), 5);
  EXPECT_NEAR(counters[0].range_joules, 262143.33, 0.01);
  EXPECT_EQ(counters[1].name, "package-1");
  folder.write("intel-rapl:0/energy_uj", "5500000\n");
  EXPECT_DOUBLE_EQ(counters[0].read_joules().value(), 5.5);
  EXPECT_TRUE(rapl_counters(folder / "nothing").empty());
}

TEST(EnergyMeter, AsksNvml) {
  const auto counter = nvml_counter(STAND_IN_NVML, "0000:3b:00.0");
  ASSERT_TRUE(counter);
  EXPECT_EQ(counter->kind, "gpu");
  EXPECT_EQ(counter->name, "0000:3b:00.0");
  EnergyMeter meter({*counter});
  meter.read();
  meter.read();
  const std::vector<EnergyReport> devices = meter.report("box");
  ASSERT_EQ(devices.size(), 1U);
  EXPECT_DOUBLE_EQ(devices[0].joules, 2) << "1000 mJ at each look";
  EXPECT_EQ(devices[0].host, "box");
}

TEST(EnergyMeter, DoesWithoutNvml) {
  EXPECT_FALSE(nvml_counter(STAND_IN_NVML, "0000:5e:00.0")) << "a GPU that it does not know";
  EXPECT_FALSE(nvml_counter(STAND_IN_NVML, "")) << "no GPU";
  EXPECT_FALSE(nvml_counter("libno-such-library.so.1", "0000:3b:00.0"));
  EXPECT_FALSE(nvml_counter("libc.so.6", "0000:3b:00.0")) << "a library without these functions";
}

}  // namespace
}  // namespace flexgen::test
