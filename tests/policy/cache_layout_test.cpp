#include "policy/cache_layout.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace flexgen::test {
namespace {

Share share_of(double gpu, double dram) { return make_placement({0, 0, gpu, dram, 0, 0}).cache; }

void check_layout(const CacheShape& shape, std::int32_t layers, std::int32_t slots, const Share& share) {
  SCOPED_TRACE(std::to_string(shape.rows) + " rows, " + std::to_string(layers) + " layers, " + std::to_string(slots) +
               " slots, " + std::to_string(share.gpu_percent) + " " + std::to_string(share.dram_percent));
  const CacheLayout layout = plan_cache(shape, layers, slots, share);
  ASSERT_EQ(layout.splits.size(), static_cast<std::size_t>(layers) * static_cast<std::size_t>(slots));
  std::int64_t gpu = 0, dram = 0, ssd = 0, staged = 0;
  for (std::int32_t layer = 0; layer < layers; ++layer)
    for (std::int32_t slot = 0; slot < slots; ++slot) {
      const CacheSplit& split = layout.split(layer, slot);
      ASSERT_GE(split.gpu_units, 0);
      ASSERT_GE(split.dram_units, 0);
      ASSERT_GE(split.ssd_units, 0);
      ASSERT_EQ(split.gpu_units + split.dram_units + split.ssd_units, shape.units());
      ASSERT_NEAR(static_cast<double>(split.gpu_units), share.gpu() * static_cast<double>(shape.units()), 1.01);
      ASSERT_NEAR(static_cast<double>(split.dram_units), share.dram() * static_cast<double>(shape.units()), 2.01);
      gpu += split.gpu_units;
      dram += split.dram_units;
      ssd += split.ssd_units;
      staged = std::max(staged, split.dram_units + split.ssd_units);
    }
  ASSERT_EQ(layout.gpu_units, gpu);
  ASSERT_EQ(layout.dram_units, dram);
  ASSERT_EQ(layout.ssd_units, ssd);
  ASSERT_EQ(layout.staged_units, staged);
  const double total = static_cast<double>(gpu + dram + ssd);
  ASSERT_NEAR(static_cast<double>(gpu), share.gpu() * total, 1);
  ASSERT_NEAR(static_cast<double>(dram), share.dram() * total, 2);
  if (share.dram_percent == 0) {
    ASSERT_EQ(dram, 0);
  }
  if (share.gpu_percent == 0) {
    ASSERT_EQ(gpu, 0);
  }
  if (share.gpu_percent + share.dram_percent == 100) {
    ASSERT_EQ(ssd, 0);
  }
}

TEST(CacheLayout, SpreadsUnitsEvenlyOverLayersAndSlots) {
  for (const std::int32_t rows : {1, 3, 16})
    for (const std::int32_t heads : {1, 4, 12, 56})
      for (const double gpu : {0.0, 5.0, 20.0, 33.3, 50.0, 95.0, 100.0})
        for (const double part : {0.0, 0.25, 0.6, 1.0})
          for (const auto& [layers, slots] : {std::pair{1, 1}, std::pair{8, 3}, std::pair{48, 4}}) {
            check_layout({rows, heads, 64, 100, DType::float16}, layers, slots, share_of(gpu, (100 - gpu) * part));
            if (HasFatalFailure()) return;
          }
}

TEST(CacheLayout, SharesAreWithinTwoPercentOnceThereAreEnoughUnits) {
  const CacheShape shape{4, 12, 64, 544, DType::float16};
  for (double gpu = 0; gpu <= 100; gpu += 3.7) {
    const CacheLayout layout = plan_cache(shape, 12, 2, share_of(gpu, (100 - gpu) / 2));
    const auto total = static_cast<double>(layout.gpu_bytes() + layout.dram_bytes() + layout.ssd_bytes());
    EXPECT_NEAR(static_cast<double>(layout.gpu_bytes()) / total, gpu / 100, 0.02);
    EXPECT_NEAR(static_cast<double>(layout.dram_bytes()) / total, (100 - gpu) / 200, 0.02);
  }
}

TEST(CacheLayout, Sizes) {
  const CacheShape shape{2, 3, 64, 10, DType::float16};
  EXPECT_EQ(shape.units(), 6);
  EXPECT_EQ(shape.position_bytes(), 2U * 64 * 2);
  EXPECT_EQ(shape.unit_bytes(), 2U * 64 * 2 * 10);
  const CacheLayout all = plan_cache(shape, 5, 7, share_of(0, 0));
  EXPECT_EQ(all.ssd_bytes(), 5U * 7 * 6 * shape.unit_bytes());
  EXPECT_EQ(all.staged_bytes(), 6 * shape.unit_bytes());
  EXPECT_EQ(plan_cache(shape, 5, 7, share_of(100, 0)).staged_bytes(), 0U);
}

TEST(CacheLayout, HugeCachesDoNotOverflow) {
  const CacheShape shape{64, 96, 128, 2048, DType::float32};
  const CacheLayout layout = plan_cache(shape, 96, 64, share_of(1, 2));
  EXPECT_EQ(layout.gpu_bytes() + layout.dram_bytes() + layout.ssd_bytes(), 64ULL * 96 * 2 * 128 * 4 * 2048 * 96 * 64);
}

TEST(CacheLayout, NoLayersNoCache) {
  const CacheLayout layout = plan_cache({4, 4, 64, 10, DType::float16}, 0, 3, share_of(50, 50));
  EXPECT_EQ(layout.gpu_bytes() + layout.dram_bytes() + layout.ssd_bytes(), 0U);
}

}  // namespace
}  // namespace flexgen::test
