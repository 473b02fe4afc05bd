// The contracts, between processes. Started by mpirun on 1, 2 and 4 ranks.
#include <gtest/gtest.h>

#include <ctime>
#include <thread>

#include "base/error.hpp"
#include "tests/comm/communicator_contract.hpp"
#include "tests/comm/transport_contract.hpp"
#include "tests/support/mpi_main.hpp"

namespace flexgen::test {
namespace {

Communicator& ranks() { return mpi_session().communicator(); }

class MpiContract : public ::testing::TestWithParam<TransportCheck> {};

TEST_P(MpiContract, Holds) {
  const auto transport = mpi_session().make_transport();
  EXPECT_EQ(transport->name(), "mpi");
  EXPECT_EQ(transport->world_size(), ranks().size());
  GetParam().run(*transport, ranks());
}

TEST_P(MpiContract, HoldsInSmallParts) {
  // Parts of 4096 bytes stand in for those of 1 GiB: messages of several parts, of exact multiples, and empty tails.
  const auto transport = mpi_session().make_transport(4096);
  GetParam().run(*transport, ranks());
}

INSTANTIATE_TEST_SUITE_P(All, MpiContract, ::testing::ValuesIn(transport_checks),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(MpiCommunicator, Contracts) {
  check_gather_and_broadcast(ranks());
  check_all_equal(ranks());
  check_agreement(ranks());
}

TEST(MpiTransport, WaitingLeavesTheCoreToOthers) {
  const auto transport = mpi_session().make_transport();
  const int other = (ranks().rank() + 1) % ranks().size();
  int in = 0;
  const auto receiving = transport->recv(std::as_writable_bytes(std::span(&in, 1)), other, Channel::hidden);
  const std::clock_t begin = std::clock();
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  const double busy_seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  EXPECT_LT(busy_seconds, 0.15) << "of half a second spent polling";
  ranks().barrier();
  const int out = 7;
  const auto back = (ranks().rank() + ranks().size() - 1) % ranks().size();
  transport->send_message(std::as_bytes(std::span(&out, 1)), back, Channel::hidden);
  receiving->wait();
  EXPECT_EQ(in, 7);
  RecordProperty("busy_milliseconds", static_cast<int>(busy_seconds * 1000));
}

}  // namespace
}  // namespace flexgen::test
