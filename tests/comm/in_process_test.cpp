#include "comm/in_process.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "base/error.hpp"
#include "tests/comm/transport_contract.hpp"

namespace flexgen::test {
namespace {

using Seconds = std::chrono::duration<double>;

class InProcessContract : public ::testing::TestWithParam<std::tuple<int, TransportCheck>> {};

TEST_P(InProcessContract, Holds) {
  const auto& [num_ranks, check] = GetParam();
  InProcessWorld(num_ranks).run(check.run);
}

INSTANTIATE_TEST_SUITE_P(Worlds, InProcessContract,
                         ::testing::Combine(::testing::Values(1, 2, 4), ::testing::ValuesIn(transport_checks)),
                         [](const auto& info) {
                           return std::string(std::get<1>(info.param).name) + "_np" +
                                  std::to_string(std::get<0>(info.param));
                         });

TEST(InProcessWorld, AFailedRankWakesAllWaitersAndItsErrorComesOut) {
  const auto begin = std::chrono::steady_clock::now();
  std::atomic<int> num_woken = 0;
  try {
    InProcessWorld(4).run([&](Transport& t, Communicator& ranks) {
      if (t.rank() == 2) {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        throw UserError(ExitCode::model, "no such layer", "");
      }
      try {
        std::vector<std::byte> bytes(10);
        if (t.rank() == 0) t.recv(bytes, 2, Channel::hidden)->wait();
        if (t.rank() == 1) t.recv_message(2, Channel::control);
        if (t.rank() == 3) ranks.barrier();
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::communication);
        EXPECT_NE(std::string(error.what()).find("rank 2"), std::string::npos) << error.what();
        EXPECT_NE(std::string(error.what()).find("no such layer"), std::string::npos) << error.what();
        ++num_woken;
        throw;
      }
    });
    FAIL() << "the failure was lost";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::model);
    EXPECT_STREQ(error.what(), "no such layer");
  }
  EXPECT_EQ(num_woken, 3);
  EXPECT_LT(Seconds(std::chrono::steady_clock::now() - begin).count(), 2.0);
}

TEST(InProcessWorld, ASendStaysPendingUntilItsReceive) {
  InProcessWorld world(2);
  const auto from = world.transport(0), to = world.transport(1);
  const std::vector<std::byte> out(8, std::byte{3});
  std::vector<std::byte> in(8);
  const auto sending = from->send(out, 1, Channel::hidden);
  EXPECT_FALSE(sending->done());
  to->recv(in, 0, Channel::hidden)->wait();
  EXPECT_TRUE(sending->done());
  EXPECT_EQ(in, out);
}

TEST(InProcessWorld, RefusesAPeerOutsideTheWorldAndStreamOrder) {
  InProcessWorld world(2);
  const auto transport = world.transport(0);
  EXPECT_THROW(transport->send_message({}, 2, Channel::control), InternalError);
  EXPECT_THROW(transport->recv_message(-1, Channel::control), InternalError);
  EXPECT_FALSE(transport->moves_device_memory());
  EXPECT_THROW(transport->send_on_stream(nullptr, 0, 1, nullptr), InternalError);
}

}  // namespace
}  // namespace flexgen::test
