#include "engine/hidden_store.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "tests/support/planned_tiers.hpp"

namespace flexgen::test {
namespace {

constexpr std::uint64_t place_bytes = 36 * 4 * 97;  // no multiple of a cache line or a disk block

class HiddenStoreTest : public ::testing::TestWithParam<Share> {};

TEST_P(HiddenStoreTest, GivesBackWhatWasStored) {
  constexpr std::int32_t num_micro_batches = 3;
  const HiddenLayout layout{GetParam(), num_micro_batches, place_bytes, 0};
  PlannedTiers tiers(home_of(layout));
  HiddenStore store(layout, tiers.memory());
  Stream stream("test", Stream::Mode::inline_tasks, Device{});
  Transfer loads(stream, host_staging(store.uses_disk())), stores(stream, host_staging(store.uses_disk()));
  std::mt19937 generator(3);
  std::vector<std::vector<std::byte>> plain(num_micro_batches);
  for (int round = 0; round < 12; ++round) {
    // Every micro-batch has a length of its own in every round: a prefill is long, a decode short.
    for (std::int32_t k = 0; k < num_micro_batches; ++k) {
      const std::uint64_t bytes = round == 0 ? place_bytes : 4 * (1 + generator() % (place_bytes / 4));
      plain[static_cast<std::size_t>(k)].resize(bytes);
      for (std::byte& value : plain[static_cast<std::size_t>(k)]) value = static_cast<std::byte>(generator());
      store.store(k, plain[static_cast<std::size_t>(k)].data(), bytes, stores);
    }
    for (std::int32_t k = 0; k < num_micro_batches; ++k) {
      const std::vector<std::byte>& expected = plain[static_cast<std::size_t>(k)];
      std::vector<std::byte> loaded(place_bytes, std::byte{0xCD});
      store.load(k, loaded.data(), expected.size(), loads);
      ASSERT_EQ(std::memcmp(loaded.data(), expected.data(), expected.size()), 0)
          << "micro-batch " << k << ", round " << round;
      for (std::size_t i = expected.size(); i < loaded.size(); ++i)
        ASSERT_EQ(loaded[i], std::byte{0xCD}) << "wrote too far";
    }
  }
}

TEST_P(HiddenStoreTest, SplitsAsAskedFor) {
  for (const std::uint64_t bytes : {place_bytes, std::uint64_t{100000}, std::uint64_t{36 * 4}}) {
    const auto [gpu, dram, ssd] = split_hidden(GetParam(), bytes);
    ASSERT_EQ(gpu + dram + ssd, bytes);
    const double slack = std::max(0.02 * static_cast<double>(bytes), 64.0);
    EXPECT_NEAR(static_cast<double>(gpu), GetParam().gpu() * static_cast<double>(bytes), slack);
    EXPECT_NEAR(static_cast<double>(dram), GetParam().dram() * static_cast<double>(bytes), slack);
    if (GetParam().ssd() == 0) {
      EXPECT_EQ(gpu + dram, bytes) << "nothing may lie on a tier that was not asked for";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Splits, HiddenStoreTest,
                         ::testing::Values(Share{100, 0}, Share{0, 100}, Share{0, 0}, Share{50, 50}, Share{0, 50},
                                           Share{20, 30}, Share{70, 0}),
                         [](const auto& info) {
                           return "gpu" + std::to_string(static_cast<int>(info.param.gpu_percent)) + "dram" +
                                  std::to_string(static_cast<int>(info.param.dram_percent));
                         });

TEST(HiddenStoreResident, KeepsEverythingWhereLayersCompute) {
  const HiddenLayout layout{{100, 0}, 2, place_bytes, 36 * 4};
  PlannedTiers tiers(home_of(layout));
  const HiddenStore store(layout, tiers.memory());
  EXPECT_TRUE(store.is_resident());
  EXPECT_FALSE(store.uses_disk());
  EXPECT_EQ(store.scratch_bytes(), 0U);
  EXPECT_GE(store.resident(1, place_bytes) - store.resident(0, place_bytes), static_cast<std::ptrdiff_t>(place_bytes));
  EXPECT_EQ(store.resident(1, 1), store.resident(1, place_bytes)) << "one place, whatever there is of it";
}

TEST(HiddenStoreResident, KeepsADecodeStepWhereLayersCompute) {
  constexpr std::uint64_t decode_bytes = 4 * 36 * 4;
  for (const Share& share : {Share{0, 100}, Share{0, 0}, Share{50, 20}}) {
    const HiddenLayout layout{share, 2, place_bytes, decode_bytes};
    PlannedTiers tiers(home_of(layout));
    const HiddenStore store(layout, tiers.memory());
    EXPECT_FALSE(store.is_resident());
    EXPECT_EQ(store.resident(0, decode_bytes + 4), nullptr) << "a prompt's states go home";
    ASSERT_NE(store.resident(0, decode_bytes), nullptr);
    EXPECT_EQ(store.resident(0, 36 * 4), store.resident(0, decode_bytes));
    EXPECT_GE(store.resident(1, decode_bytes) - store.resident(0, decode_bytes),
              static_cast<std::ptrdiff_t>(decode_bytes));
  }
}

}  // namespace
}  // namespace flexgen::test
