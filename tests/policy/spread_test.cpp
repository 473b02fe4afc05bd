#include "policy/spread.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace flexgen::test {
namespace {

TEST(Spread, WholeSequenceIsRightToOneGrain) {
  std::mt19937 random(5);
  for (const double fraction : {0.0, 0.01, 0.2, 1.0 / 3, 0.5, 0.77, 0.999, 1.0})
    for (const std::uint64_t grain : {1ULL, 256ULL, 4096ULL}) {
      Spread spread(fraction);
      double wanted = 0;
      std::uint64_t taken = 0;
      for (int part = 0; part < 300; ++part) {
        const std::uint64_t size = grain * (1 + random() % 50) + random() % grain;
        const std::uint64_t got = spread.take(size, grain, size);
        EXPECT_LE(got, size);
        EXPECT_TRUE(got % grain == 0 || got == size) << got << " of " << size;
        wanted += fraction * static_cast<double>(size);
        taken += got;
        EXPECT_NEAR(static_cast<double>(taken), wanted, static_cast<double>(grain));
      }
    }
}

TEST(Spread, PartsAreEven) {
  Spread fifth(0.2);
  std::vector<std::uint64_t> taken;
  for (int i = 0; i < 10; ++i) taken.push_back(fifth.take(4, 1, 4));
  EXPECT_EQ(taken, (std::vector<std::uint64_t>{1, 1, 0, 1, 1, 1, 1, 0, 1, 1}));  // 0.8 each: 8 of 10
}

TEST(Spread, NeverTakesMoreThanThereIs) {
  Spread most(0.9);
  for (int i = 0; i < 20; ++i) EXPECT_LE(most.take(100, 1, 30), 30U);
}

}  // namespace
}  // namespace flexgen::test
