// Clocks and links between ranks that are threads.
#include "run/doctor/link_check.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.hpp"
#include "comm/in_process.hpp"

namespace flexgen::test {
namespace {

using Pairs = std::vector<std::pair<int, int>>;

TEST(DoctorLinks, NeighboursAndMachines) {
  EXPECT_EQ(choose_links({0}), Pairs{});
  EXPECT_EQ(choose_links({0, 1}), (Pairs{{0, 1}}));
  EXPECT_EQ(choose_links({0, 0, 0}), (Pairs{{0, 1}, {1, 2}, {2, 0}}));
  // Machines 0, 1, 2, 3: the ring leaves the two diagonals.
  EXPECT_EQ(choose_links({0, 1, 2, 3}), (Pairs{{0, 1}, {1, 2}, {2, 3}, {3, 0}, {0, 2}, {1, 3}}));
  EXPECT_EQ(choose_links({0, 0, 2, 2}), (Pairs{{0, 1}, {1, 2}, {2, 3}, {3, 0}})) << "two machines, which have a link";
}

TEST(DoctorLinks, EveryRankLearnsWhatLinksCarry) {
  InProcessWorld world(3);
  world.run([](Transport& transport, Communicator& ranks) {
    const std::vector<ClockFacts> clocks = measure_clocks(transport, ranks);
    ASSERT_EQ(clocks.size(), ranks.rank() == 0 ? 2U : 0U);
    for (const ClockFacts& clock : clocks) EXPECT_LE(std::abs(clock.offset_seconds), clock.uncertainty_seconds + 1e-3);
    const LinkFigures figures = measure_links(transport, ranks, choose_links({0, 0, 0}), std::chrono::seconds(20));
    ASSERT_EQ(figures.links.size(), 3U);
    EXPECT_EQ(figures.num_left_out, 0);
    EXPECT_EQ(figures.links[2].from, 2);
    EXPECT_EQ(figures.links[2].to, 0);
    for (const LinkFacts& link : figures.links) {
      EXPECT_GT(link.latency_seconds, 0);
      EXPECT_LT(link.latency_seconds, 1);
      EXPECT_GT(link.bytes_per_second, 1e6);
      EXPECT_GT(link.bytes_per_second_back, 1e6);
    }
    EXPECT_EQ(measure_links(transport, ranks, choose_links({0, 0, 0}), std::chrono::seconds(0)).num_left_out, 3);
  });
}

TEST(DoctorLinks, ARankThatDoesNotAnswerIsNamed) {
  InProcessWorld world(2);
  world.run([](Transport& transport, Communicator& ranks) {
    if (ranks.rank() == 0) {
      try {
        measure_clocks(transport, ranks, std::chrono::milliseconds(50));
        FAIL() << "nobody has answered";
      } catch (const UserError& error) {
        EXPECT_EQ(error.code(), ExitCode::communication);
        for (const int rank : {0, 1})
          EXPECT_NE(std::string(error.what()).find(ranks.describe(rank)), std::string::npos) << error.what();
      }
    }
    ranks.barrier();
  });
}

}  // namespace
}  // namespace flexgen::test
