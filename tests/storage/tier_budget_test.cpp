#include "storage/tier_budget.hpp"

#include <thread>

#include "base/bytes.hpp"
#include "tests/storage/io_engines.hpp"

namespace flexgen::test {
namespace {

TEST(TierBudget, CountsUseAndPeak) {
  TierBudget budget(TierKind::gpu, 100);
  budget.take(60, MemoryUse::weights, "weights");
  budget.take(40, MemoryUse::cache, "cache");
  EXPECT_EQ(budget.used_bytes(), 100u);
  budget.give_back(50, MemoryUse::weights);
  budget.give_back(20, MemoryUse::cache);
  EXPECT_EQ(budget.used_bytes(), 30u);
  EXPECT_EQ(budget.used_bytes(MemoryUse::weights), 10u);
  EXPECT_EQ(budget.peak_bytes(MemoryUse::weights), 60u);
  EXPECT_EQ(budget.used_bytes(MemoryUse::cache), 20u);
  EXPECT_EQ(budget.peak_bytes(MemoryUse::hidden), 0u);
  EXPECT_EQ(budget.peak_bytes(), 100u);
  EXPECT_EQ(budget.capacity_bytes(), 100u);
  EXPECT_THROW(budget.give_back(11, MemoryUse::weights), InternalError) << "the tier holds more, but not for this";
}

TEST(TierBudget, RefusesWithNumbersAndKeepsWhatItHad) {
  TierBudget budget(TierKind::dram, 10 * MiB);
  budget.take(4 * MiB, MemoryUse::weights, "weights");
  const std::string message =
      user_error(ExitCode::does_not_fit, [&] { budget.take(6 * MiB + 1, MemoryUse::cache, "KV cache of layer 3"); });
  for (const char* part : {"KV cache of layer 3", "dram", "6291457 bytes", "4.00 MiB of 10.00 MiB", "--cpu-mem"}) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  }
  EXPECT_EQ(budget.used_bytes(), 4 * MiB);
  user_error(ExitCode::does_not_fit, [&] { budget.take(~std::uint64_t{0}, MemoryUse::staging, "everything"); });
}

TEST(TierBudget, ManyThreadsNeverPassTheCapacity) {
  TierBudget budget(TierKind::ssd, 50);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int step = 0; step < 2000; ++step) {
        try {
          const BudgetShare share(budget, 20, MemoryUse::staging, "piece");
        } catch (const UserError&) {
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(budget.used_bytes(), 0u);
  EXPECT_LE(budget.peak_bytes(), 40u);
  EXPECT_GE(budget.peak_bytes(), 20u);
}

TEST(BudgetShare, GivesBackOnceHoweverItMoves) {
  TierBudget budget(TierKind::gpu, 100);
  {
    BudgetShare first(budget, 30, MemoryUse::cache, "a");
    BudgetShare second = std::move(first);
    EXPECT_EQ(second.bytes(), 30u);
    second = BudgetShare(budget, 50, MemoryUse::hidden, "b");
    EXPECT_EQ(budget.used_bytes(MemoryUse::cache), 0u);
    EXPECT_EQ(budget.used_bytes(MemoryUse::hidden), 50u);
    EXPECT_EQ(budget.used_bytes(), 50u);
  }
  EXPECT_EQ(budget.used_bytes(), 0u);
  EXPECT_EQ(tier_name(TierKind::gpu), "gpu");
  EXPECT_EQ(tier_name(TierKind::dram), "dram");
  EXPECT_EQ(tier_name(TierKind::ssd), "ssd");
}

}  // namespace
}  // namespace flexgen::test
