#include "comm/communicator.hpp"

#include <gtest/gtest.h>

#include "comm/in_process.hpp"
#include "tests/comm/communicator_contract.hpp"

namespace flexgen {
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
                         ::testing::Values(testing::check_gather_and_broadcast, testing::check_all_equal,
                                           testing::check_agreement));

}  // namespace
}  // namespace flexgen
