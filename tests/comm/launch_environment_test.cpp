#include "comm/launch_environment.hpp"

#include <gtest/gtest.h>

#include <map>

#include "base/error.hpp"

namespace flexgen::test {
namespace {

LaunchEnvironment read(const std::map<std::string, std::string>& variables) {
  return read_launch_environment([&](const char* name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    if (found == variables.end()) return std::nullopt;
    return found->second;
  });
}

TEST(LaunchEnvironment, AloneNeedsNoMpi) {
  const auto launch = read({});
  EXPECT_FALSE(launch.by_mpi_launcher);
  EXPECT_NO_THROW(check_world_size(launch, 1));
}

TEST(LaunchEnvironment, KnowsTheLaunchers) {
  EXPECT_EQ(read({{"OMPI_COMM_WORLD_SIZE", "4"}}).expected_size, 4);
  EXPECT_TRUE(read({{"OMPI_COMM_WORLD_SIZE", "4"}}).by_mpi_launcher);
  EXPECT_EQ(read({{"PMI_SIZE", "2"}, {"PMI_RANK", "0"}}).expected_size, 2);
  EXPECT_TRUE(read({{"PMIX_RANK", "0"}}).by_mpi_launcher);
  EXPECT_EQ(read({{"PMIX_RANK", "0"}}).rank, 0);
  EXPECT_EQ(read({{"PMIX_RANK", "3"}}).rank, 3);
  EXPECT_EQ(read({{"OMPI_COMM_WORLD_RANK", "2"}}).rank, 2);
}

TEST(LaunchEnvironment, RefusesAWorldOfTheWrongSize) {
  const auto launch = read({{"OMPI_COMM_WORLD_SIZE", "4"}});
  EXPECT_NO_THROW(check_world_size(launch, 4));
  EXPECT_THROW(check_world_size(launch, 1), UserError);
}

TEST(LaunchEnvironment, RefusesSingletonsOfSrun) {
  // srun without a PMI: nothing but Slurm's variables.
  for (const auto& launch :
       {read({{"SLURM_NTASKS", "4"}}), read({{"SLURM_JOB_ID", "7"}, {"SLURM_STEP_ID", "0"}, {"SLURM_NTASKS", "4"}})}) {
    EXPECT_FALSE(launch.by_mpi_launcher);
    try {
      check_world_size(launch, 1);
      FAIL() << "four singletons passed";
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::communication);
      EXPECT_NE(std::string(error.what()).find("--mpi=pmix"), std::string::npos);
    }
  }
  EXPECT_NO_THROW(check_world_size(read({{"SLURM_NTASKS", "1"}}), 1));
}

TEST(LaunchEnvironment, ABatchScriptMayStartAloneOrByMpirun) {
  // sbatch -n 4: the script is one process, and mpirun in it may start fewer ranks.
  EXPECT_NO_THROW(check_world_size(read({{"SLURM_JOB_ID", "7"}, {"SLURM_NTASKS", "4"}}), 1));
  EXPECT_NO_THROW(
      check_world_size(read({{"SLURM_JOB_ID", "7"}, {"SLURM_NTASKS", "4"}, {"OMPI_COMM_WORLD_SIZE", "1"}}), 1));
}

}  // namespace
}  // namespace flexgen::test
