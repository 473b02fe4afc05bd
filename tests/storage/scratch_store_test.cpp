#include "storage/scratch_store.hpp"

#include <map>
#include <optional>

#include "base/bytes.hpp"
#include "tests/storage/io_engines.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

TEST(ScratchStore, RegionsAreAlignedAndNeverOverlap) {
  const ScratchPlace place;
  ScratchStore store(place.path(), MiB);
  Numbers numbers(80);
  std::vector<std::optional<ScratchRegion>> regions(20);
  for (int step = 0; step < 2000; ++step) {
    auto& slot = regions[numbers.below(regions.size())];
    if (slot) {
      slot.reset();
    } else {
      try {
        slot = store.allocate(1 + numbers.below(150'000), "piece");
      } catch (const UserError& error) {
        ASSERT_EQ(error.code(), ExitCode::does_not_fit);
      }
    }
    std::map<std::uint64_t, std::uint64_t> taken;
    std::uint64_t used = 0;
    for (const auto& region : regions) {
      if (!region) continue;
      ASSERT_EQ(region->offset_bytes() % 4096, 0u);
      ASSERT_EQ(region->capacity_bytes() % 4096, 0u);
      taken[region->offset_bytes()] = region->capacity_bytes();
      used += region->capacity_bytes();
    }
    ASSERT_EQ(store.used_bytes(), used);
    std::uint64_t end = 0;
    for (const auto& [offset, size] : taken) {
      ASSERT_GE(offset, end);
      end = offset + size;
    }
    ASSERT_LE(end, store.capacity_bytes());
  }
  regions.clear();
  EXPECT_EQ(store.used_bytes(), 0u);
  EXPECT_EQ(store.allocate(MiB, "all").capacity_bytes(), MiB) << "gaps were not joined again";
}

TEST(ScratchStore, TooMuchIsRefusedWithNumbers) {
  const ScratchPlace place;
  ScratchStore store(place.path(), 64 * KiB);
  const ScratchRegion half = store.allocate(32 * KiB, "half");
  const std::string message = user_error(ExitCode::does_not_fit, [&] { store.allocate(32 * KiB + 1, "KV cache"); });
  EXPECT_NE(message.find("KV cache"), std::string::npos) << message;
  EXPECT_NE(message.find("36864 bytes"), std::string::npos) << message;
  EXPECT_THROW(half.extent(32 * KiB, 1), InternalError);
}

}  // namespace
}  // namespace flexgen::test
