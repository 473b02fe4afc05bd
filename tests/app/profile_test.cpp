// `flexgen-dist profile` as a user runs it, on the CPU: one rank and two; and the roofline that bench shows with it.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "comm/communicator.hpp"
#include "spec/hardware_profile.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

namespace fs = std::filesystem;

class ProfileCommand : public ::testing::Test {
 protected:
  // Runs the program with a cache folder of the test's own; what it said is in output_.
  int run(const std::string& arguments, int num_ranks = 1) {
    const std::string launcher =
        num_ranks > 1 ? FLEXGEN_SOURCE_DIR "/launch/mpirun.sh -n " + std::to_string(num_ranks) + " " : std::string();
    const fs::path log = place_ / "output";
    const std::string command = "XDG_CACHE_HOME='" + (place_ / "cache").string() + "' " + launcher +
                                FLEXGEN_PROGRAM " " + arguments + " > '" + log.string() + "' 2>&1";
    const int status = std::system(command.c_str());
    output_ = file_text(log);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  fs::path profile_file() const { return place_ / "cache" / "flexgen-dist" / ("profile-" + host_name() + ".json"); }

  std::string profile_arguments() const {
    return "profile --quick --device cpu --offload-dir '" + (place_ / "scratch").string() + "'";
  }

  static constexpr const char* bench_arguments =
      "bench --model demo-model --dummy --device cpu --prompt-len 16 --gen-len 8 --gpu-batch-size 2 --num-gpu-batches "
      "2 "
      "--percent 50 50 0 100 0 100 --path '" FLEXGEN_SOURCE_DIR "/configs'";

  test::ScratchPlace place_;
  std::string output_;
};

TEST_F(ProfileCommand, MeasuresAMachineAndBenchJudgesItselfByIt) {
  ASSERT_EQ(run(profile_arguments()), 0) << output_;
  const HardwareProfile p = parse_hardware_profile(file_text(profile_file()), "profile");
  EXPECT_EQ(p.host, host_name());
  EXPECT_TRUE(p.quick);
  EXPECT_GT(best_rate(p.memory.read), 1e8);
  EXPECT_GT(best_rate(p.memory.copy), 1e8);
  EXPECT_GT(best_rate(p.memory.matrix, DType::float32), 1e8);
  EXPECT_FALSE(p.gpu.has_value());
  ASSERT_TRUE(p.disk.has_value());
  EXPECT_GT(best_rate(p.disk->read), 1e6);
  EXPECT_GT(best_rate(p.disk->write), 1e6);
  EXPECT_TRUE(p.links.empty());
  EXPECT_NE(output_.find("host memory read"), std::string::npos) << output_;
  EXPECT_FALSE(fs::exists(place_ / "scratch")) << "the folder was made for this run";

  const fs::path report = place_ / "report.json";
  ASSERT_EQ(run(bench_arguments + (" --report '" + report.string() + "'")), 0) << output_;
  EXPECT_NE(output_.find("bound by"), std::string::npos) << output_;
  const auto roofline = nlohmann::json::parse(file_text(report))["roofline"];
  EXPECT_GT(roofline["bound_tokens_per_second"].get<double>(), 0);
  EXPECT_GT(roofline["fraction"].get<double>(), 0);
  for (const char* phase : {"prefill", "decode"}) {
    const auto& matrix = roofline["phases"][phase]["resources"]["matrix"];
    EXPECT_GT(matrix["least_seconds"].get<double>(), 0);
    EXPECT_GT(matrix["busy_seconds"].get<double>(), 0) << "the phases' own times are measured";
  }
}

TEST_F(ProfileCommand, TwoRanksMeasureTheirLink) {
  const fs::path file = place_ / "two.json";
  ASSERT_EQ(run(profile_arguments() + " --output '" + file.string() + "'", 2), 0) << output_;
  const HardwareProfile p = parse_hardware_profile(file_text(file), "profile");
  ASSERT_EQ(p.links.size(), 1U);
  EXPECT_EQ(p.links[0].transport, "mpi");
  EXPECT_EQ(p.links[0].to, 1);
  EXPECT_TRUE(p.links[0].same_machine);
  EXPECT_GT(p.links[0].latency_seconds, 0);
  EXPECT_LT(p.links[0].latency_seconds, 1);
  EXPECT_GT(best_rate(p.links[0].rates), 1e6);
  EXPECT_FALSE(fs::exists(profile_file())) << "--output was given";

  ASSERT_EQ(run(bench_arguments + (" --profile '" + file.string() + "'"), 2), 0) << output_;
  EXPECT_NE(output_.find("the slowest stage"), std::string::npos) << output_;
}

TEST_F(ProfileCommand, WithoutAProfileBenchSaysHowToGetOne) {
  ASSERT_EQ(run(bench_arguments), 0) << output_;
  EXPECT_NE(output_.find("flexgen-dist profile"), std::string::npos) << output_;
  EXPECT_EQ(output_.find("bound by"), std::string::npos) << output_;
  EXPECT_EQ(run(bench_arguments + (" --profile '" + (place_ / "missing.json").string() + "'")), 6) << output_;
  std::ofstream(place_ / "bad.json") << "{}";
  EXPECT_EQ(run(bench_arguments + (" --profile '" + (place_ / "bad.json").string() + "'")), 6) << output_;
  EXPECT_EQ(run("profile --quick --transport pigeon"), 2) << output_;
}

}  // namespace
}  // namespace flexgen::test
