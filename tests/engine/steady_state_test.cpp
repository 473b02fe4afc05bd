// Once a job is under way no sweep allocates memory of the device and none blocks the host on it: the streams' order is
// kept by events alone. What the host does wait for are the tokens.
#include <gtest/gtest.h>

#include <array>

#include "device/device.hpp"
#include "device/stream.hpp"
#include "tests/support/in_process_job.hpp"
#include "tests/support/scratch_place.hpp"
#include "tests/support/tiny_model.hpp"

namespace flexgen::test {
namespace {

using Percent = std::array<double, 6>;

enum class Beginnings : std::uint8_t { own, shared };

// Of the sweeps from the fourth on, by when every ring has gone round.
DeviceCallCounts calls_of_steady_state(const Device& device, const Percent& percent, Beginnings beginnings) {
  const ScratchPlace scratch;
  InProcessJob job;
  job.model = tiny_model();
  job.model.max_positions = 128;
  job.device = device;
  job.policy.micro_batch_size = 2;
  job.policy.num_micro_batches = 3;
  job.policy.placement = make_placement(percent);
  const bool shares = beginnings == Beginnings::shared;
  if (shares) job.policy.num_prefixes = 2;
  for (std::size_t r = 0; r < 6; ++r) job.prompts.emplace_back((shares ? 67 : 3) + r, 5);
  job.new_tokens = 24;
  job.offload_dir = scratch.path();
  job.keep_logits = false;
  job.make_source = [](int) { return make_random_source(); };
  DeviceCallCounts begin, end;
  job.on_token = [&](RowId, std::size_t step) {
    if (step == 3) begin = device_call_counts();
    if (step == 22) end = device_call_counts();
  };
  EXPECT_EQ(run_in_process(job).num_saved_tokens > 0, shares);
  return {end.host_waits - begin.host_waits, end.allocations - begin.allocations};
}

class SteadyState : public testing::TestWithParam<Percent> {};

TEST_P(SteadyState, HostNeitherAllocatesNorWaits) {
  for (const Beginnings beginnings : {Beginnings::own, Beginnings::shared}) {
    const DeviceCallCounts calls = calls_of_steady_state(Device{}, GetParam(), beginnings);
    EXPECT_EQ(calls.allocations, 0);
    EXPECT_EQ(calls.host_waits, 0);
  }
}

TEST_P(SteadyState, GpuNeitherAllocatesNorWaits) {
  if (num_cuda_devices() == 0) GTEST_SKIP() << "needs a GPU";
  for (const Beginnings beginnings : {Beginnings::own, Beginnings::shared}) {
    const DeviceCallCounts calls = calls_of_steady_state(Device{DeviceKind::cuda, 0}, GetParam(), beginnings);
    EXPECT_EQ(calls.allocations, 0);
    EXPECT_EQ(calls.host_waits, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Placements, SteadyState,
                         testing::Values(Percent{100, 0, 100, 0, 100, 0}, Percent{20, 80, 0, 100, 0, 100},
                                         Percent{0, 100, 50, 50, 50, 50}));

}  // namespace
}  // namespace flexgen::test
