#include "comm/communicator.hpp"

#include <gtest/gtest.h>

#include "comm/gpu_sharing.hpp"
#include "comm/in_process.hpp"
#include "tests/comm/communicator_contract.hpp"

namespace flexgen::test {
namespace {

class CommunicatorContract : public ::testing::TestWithParam<void (*)(Communicator&)> {};

TEST_P(CommunicatorContract, HoldsInProcess) {
  for (const int num_ranks : {1, 2, 4})
    InProcessWorld(num_ranks).run([](Transport&, Communicator& ranks) { GetParam()(ranks); });
}

TEST_P(CommunicatorContract, HoldsAlone) {
  NullCommunicator alone;
  GetParam()(alone);
}

INSTANTIATE_TEST_SUITE_P(All, CommunicatorContract,
                         ::testing::Values(check_gather_and_broadcast, check_all_equal, check_agreement));

TEST(GpuSharing, TwoRanksOnOneGpuAreRefusedOnAllRanks) {
  InProcessWorld(4).run([](Transport&, Communicator& ranks) {
    EXPECT_NO_THROW(refuse_shared_gpus(ranks, "0000:0" + std::to_string(ranks.rank()) + ":00.0"));
    try {
      refuse_shared_gpus(ranks, ranks.rank() % 3 == 0 ? "0000:3b:00.0" : "0000:0" + std::to_string(ranks.rank()));
      ADD_FAILURE() << "ranks 0 and 3 share a GPU";
    } catch (const AgreedError& error) {
      const std::string text = error.what();
      EXPECT_NE(text.find(ranks.describe(0) + " and " + ranks.describe(3) + " share the GPU at 0000:3b:00.0"),
                std::string::npos)
          << text;
    }
  });
}

}  // namespace
}  // namespace flexgen::test
