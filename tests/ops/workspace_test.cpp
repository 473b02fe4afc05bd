#include <gtest/gtest.h>

#include "base/error.hpp"
#include "ops/attention.hpp"
#include "ops/context.hpp"
#include "ops/linear.hpp"

namespace flexgen::test {
namespace {

TEST(Workspace, TakesAlignedMemoryAndGivesItBack) {
  alignas(256) static std::byte memory[2048];
  Workspace workspace(memory + 1, sizeof memory - 1);
  {
    const Workspace::Scope scope(workspace);
    std::byte* first = workspace.take(10, "first");
    std::byte* second = workspace.take(300, "second");
    EXPECT_EQ(first, memory + 256);
    EXPECT_EQ(second, memory + 512);
    EXPECT_EQ(workspace.used_bytes(), 811U);
  }
  EXPECT_EQ(workspace.used_bytes(), 0U);
  EXPECT_EQ(workspace.peak_bytes(), 811U);
}

TEST(Workspace, RefusesMoreThanWasPlanned) {
  alignas(256) static std::byte memory[1024];
  Workspace workspace(memory, sizeof memory);
  EXPECT_NO_THROW(workspace.take(1024, "all"));
  EXPECT_THROW(workspace.take(1, "one more"), InternalError);
  Workspace empty;
  EXPECT_THROW(empty.take(1, "anything"), InternalError);
  EXPECT_THROW(Workspace(memory, 1024).take(~0ULL, "an overflow"), InternalError);
}

TEST(Workspace, HostOpsNeedNone) {
  EXPECT_EQ(attention_workspace_bytes({}, {8, 12, 64, 512, DType::float16}), 0U);
  EXPECT_EQ(linear_workspace_bytes({}), 0U);
}

TEST(Workspace, OpsRefuseADeviceThatTheBuildLacks) {
  if (cuda_compiled()) GTEST_SKIP() << "this build has it";
  OpContext context;
  context.device.kind = DeviceKind::cuda;
  float value = 1.0F;
  LinearArgs args;
  args.x = args.weight = args.out = contiguous_view(reinterpret_cast<std::byte*>(&value), 1, 1, DType::float32);
  EXPECT_THROW(linear(context, args), InternalError);
}

}  // namespace
}  // namespace flexgen::test
