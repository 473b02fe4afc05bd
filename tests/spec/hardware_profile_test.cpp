#include "spec/hardware_profile.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.hpp"
#include "base/json_fields.hpp"

namespace flexgen::test {
namespace {

using nlohmann::json;

HardwareProfile sample() {
  HardwareProfile p;
  p.program = "0.1.0";
  p.host = "box \"1\"";
  p.measured_at = "2026-01-02T03:04:05Z";
  p.quick = true;
  p.memory = {16, {{1, 1.25e10}, {16, 9.9e10}}, {{1, 1e10}}, {{DType::float32, 512, 4096, 1.5e12}}, {}};
  p.memory.ops = OpRates{{{DType::bfloat16, 4, 8, 4096, 8e10}},
                         {{DType::float32, 0, 512, 2e10}},
                         {{DType::float32, 8, 128, 5e10, 3e9}},
                         {{DType::float16, 8, 1024, 2e9}}};
  GpuProfile gpu;
  gpu.name = "GPU";
  gpu.host_to_gpu = {{65536, 1.65e10}, {16777216, 5.4e10}};
  gpu.gpu_to_host = {{65536, 1.6e10}};
  gpu.both_directions = {{65536, 3e10}};
  gpu.pageable_host_to_gpu_bytes_per_second = 8.8e9;
  gpu.memory_bytes_per_second = 4.256e12;
  gpu.matrix = {{DType::float16, 4096, 8192, 7.44e14}, {DType::float16, 8, 8192, 1e13}};
  gpu.beside_host_reads = {{8, 6.5e10, 4.9e10}};
  p.gpu = gpu;
  p.disk = DiskProfile{"/data",
                       "io_uring",
                       true,
                       2147483648,
                       "note",
                       {{1048576, 32, 2.3e9}},
                       {{1048576, 32, 2.7e9}},
                       DiskRate{1048576, 32, 2.1e9},
                       DiskRate{1048576, 32, 2.2e9}};
  p.links = {{"nccl", 0, 1, false, 1.5e-5, {{1048576, 3.58e11}}}};
  return p;
}

TEST(HardwareProfile, RoundTrip) {
  EXPECT_EQ(parse_hardware_profile(to_json(sample()), "here"), sample());
  HardwareProfile cpu = sample();
  cpu.gpu.reset();
  cpu.disk.reset();
  cpu.links.clear();
  EXPECT_EQ(parse_hardware_profile(to_json(cpu), "here"), cpu);
}

TEST(HardwareProfile, AProfileWithoutLastingRatesIsReadAndItsBestBurstsCount) {
  HardwareProfile old = sample();
  EXPECT_EQ(lasting_read_rate(*old.disk), 2.1e9);
  EXPECT_EQ(lasting_write_rate(*old.disk), 2.2e9);
  json text = json::parse(to_json(old));
  text["disk"].erase("sustained_read");
  text["disk"].erase("sustained_write");
  old = parse_hardware_profile(text.dump(), "here");
  EXPECT_EQ(lasting_read_rate(*old.disk), 2.3e9);
  EXPECT_EQ(lasting_write_rate(*old.disk), 2.7e9);
}

TEST(HardwareProfile, AProfileWithoutRatesOfOpsIsRead) {
  json text = json::parse(to_json(sample()));
  text["memory"].erase("ops");
  text["gpu"].erase("ops");
  const HardwareProfile old = parse_hardware_profile(text.dump(), "here");
  EXPECT_FALSE(old.memory.ops.has_value());
  EXPECT_EQ(old.memory.matrix, sample().memory.matrix);
}

TEST(HardwareProfile, ADataTypeStandsAsItsNameWhereverItIsWritten) {
  const MatrixRate rate{DType::bfloat16, 512, 4096, 1.5e12};
  const std::string text = to_json_text(rate);
  EXPECT_EQ(text, R"({"dtype":"bfloat16","rows":512,"size":4096,"operations_per_second":1500000000000.0})");
  EXPECT_EQ(from_json_text<MatrixRate>(text), rate);
}

TEST(HardwareProfile, DamagedFilesAreRefusedByName) {
  const json good = json::parse(to_json(sample()));
  const auto expect_refused = [](const std::string& text) {
    try {
      parse_hardware_profile(text, "some.json");
      ADD_FAILURE() << text;
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::file);
      EXPECT_NE(std::string(error.what()).find("some.json"), std::string::npos) << error.what();
    }
  };
  for (const char* text : {"", "{", "[]", "null", "{}", "7"}) expect_refused(text);
  for (const auto& [name, value] : good.items()) {
    json damaged = good;
    damaged.erase(name);
    // What may not have been measured, or is of newer files.
    if (name != "gpu" && name != "disk" && name != "capacity" && name != "sources" && name != "corrected")
      expect_refused(damaged.dump());
  }
  json damaged = good;
  damaged["schema_version"] = 2;
  expect_refused(damaged.dump());
  damaged = good;
  damaged["gpu"]["memory_bytes_per_second"] = -1.0;
  expect_refused(damaged.dump());
  damaged = good;
  damaged["gpu"]["memory_bytes_per_second"] = nullptr;
  expect_refused(damaged.dump());
  damaged = good;
  damaged["disk"]["read"][0]["queue_depth"] = "many";
  expect_refused(damaged.dump());
  damaged = good;
  damaged["memory"]["matrix"][0]["dtype"] = "float7";
  expect_refused(damaged.dump());
}

TEST(HardwareProfile, BestRates) {
  const HardwareProfile p = sample();
  EXPECT_EQ(best_rate(p.gpu->host_to_gpu), 5.4e10);
  EXPECT_EQ(best_rate(p.memory.read), 9.9e10);
  EXPECT_EQ(best_rate(p.gpu->matrix, DType::float16), 7.44e14);
  EXPECT_EQ(best_rate(p.gpu->matrix, DType::float32), 0);
  EXPECT_EQ(best_rate(std::vector<DiskRate>{}), 0);
  EXPECT_EQ(link_rate(p.links, "nccl"), 3.58e11);
  EXPECT_EQ(link_rate(p.links, "mpi"), 0);
}

}  // namespace
}  // namespace flexgen::test
