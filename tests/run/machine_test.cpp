#include "run/machine.hpp"

#include <gtest/gtest.h>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "ops/host/host_kernels.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

TEST(Machine, DataTypeOnACpu) {
  constexpr DType kEveryDType[] = {DType::float32, DType::float16, DType::bfloat16};
  const DType fastest = host_kernels().multiplies_bfloat16 ? DType::bfloat16 : DType::float32;
  for (const DType stored : kEveryDType) EXPECT_EQ(choose_dtype(std::nullopt, Device{}, stored), fastest);
  for (const DType asked : kEveryDType) EXPECT_EQ(choose_dtype(asked, Device{}, DType::float16), asked);
}

TEST(Machine, RanksDivideTheProcessorsThatTheyShare) {
  const ProcessorGrant all{{0, 1, 2, 3}, 0, "job"};
  EXPECT_EQ(share_of_rank({all}, 0).count, 4);
  const std::vector<ProcessorGrant> alike{all, all};
  EXPECT_EQ(share_of_rank(alike, 1).count, 2);
  EXPECT_EQ(share_of_rank(alike, 1).order, 1);
  // The launcher has bound each to its own.
  const std::vector<ProcessorGrant> bound{{{0, 1}, 0, "job"}, {{2, 3}, 0, "job"}};
  EXPECT_EQ(share_of_rank(bound, 0).count, 2);
  EXPECT_EQ(share_of_rank(bound, 1).count, 2);
  EXPECT_EQ(share_of_rank(bound, 1).order, 0);
}

TEST(Machine, RanksDivideTheTimeOfTheirControlGroup) {
  const std::vector<ProcessorGrant> together{{{0, 1}, 2, "container"}, {{2, 3}, 2, "container"}};
  EXPECT_EQ(share_of_rank(together, 0).count, 1);
  const std::vector<ProcessorGrant> apart{{{0, 1}, 0.25, "small"}, {{0, 1}, 0, "large"}};
  EXPECT_EQ(share_of_rank(apart, 0).count, 0.25);
  EXPECT_EQ(share_of_rank(apart, 1).count, 1);
}

TEST(Machine, CudaThatIsNotThereIsAUsageErrorAndAutoFallsBack) {
  if (num_cuda_devices() > 0) GTEST_SKIP() << "there is a GPU";
  const NullCommunicator alone;
  MachineRequest request;
  EXPECT_FALSE(choose_device(request, alone).is_cuda());
  request.device = "cuda";
  try {
    choose_device(request, alone);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
  }
}

TEST(Machine, AGpuThatIsLeftUnusedHasAReason) {
  const ScratchPlace root;
  EXPECT_EQ(why_gpu_is_unused(root.path()), "") << "no driver";
  std::filesystem::create_directories(root / "proc/driver/nvidia");
  root.write("proc/driver/nvidia/version", "NVRM version: 550.54.15\n");
  EXPECT_NE(why_gpu_is_unused(root.path()).find("CUDA"), std::string::npos);
}

TEST(Machine, BudgetsThatAreGivenAreTaken) {
  const NullCommunicator alone;
  const test::ScratchPlace place;
  MachineRequest request;
  request.gpu_mem = 1 * GiB;
  request.cpu_mem = 2 * GiB;
  request.disk_mem = 3 * GiB;
  request.offload_dir = place.path().string();
  const Budgets given = choose_budgets(request, Device{}, alone);
  EXPECT_EQ(given.gpu_bytes, 1 * GiB);
  EXPECT_EQ(given.dram_bytes, 2 * GiB);
  EXPECT_EQ(given.ssd_bytes, 3 * GiB);
  request.gpu_mem.reset();
  request.cpu_mem.reset();
  request.disk_mem.reset();
  const Budgets found = choose_budgets(request, Device{}, alone);
  EXPECT_GT(found.gpu_bytes, 0U);
  EXPECT_GT(found.dram_bytes, 0U);
  EXPECT_GT(found.gpu_bytes, found.dram_bytes);
}

}  // namespace
}  // namespace flexgen::test
