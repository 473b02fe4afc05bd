#include "policy/cache_layout.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "base/error.hpp"

namespace flexgen::test {
namespace {

Share share_of(double gpu, double dram) { return make_placement({0, 0, gpu, dram, 0, 0}).cache; }

std::vector<std::vector<CacheBand>> one_band(std::int32_t slots, std::int32_t positions, const Share& share) {
  return std::vector(static_cast<std::size_t>(slots), std::vector<CacheBand>{{positions, share, false}});
}

void check_layout(const CacheShape& shape, std::int32_t layers, std::int32_t slots, const Share& share) {
  SCOPED_TRACE(std::to_string(shape.heads) + " heads, " + std::to_string(layers) + " layers, " + std::to_string(slots) +
               " slots, " + std::to_string(share.gpu_percent) + " " + std::to_string(share.dram_percent));
  constexpr std::int32_t positions = 80;
  const std::uint64_t head = positions * shape.position_bytes();
  const CacheLayout layout = plan_cache(shape, layers, one_band(slots, positions, share));
  ASSERT_EQ(layout.splits.size(), static_cast<std::size_t>(layers) * static_cast<std::size_t>(slots));
  std::uint64_t gpu = 0, dram = 0, ssd = 0, staged = 0;
  for (std::int32_t layer = 0; layer < layers; ++layer)
    for (std::int32_t slot = 0; slot < slots; ++slot) {
      const CacheSplit& split = layout.split(layer, slot);
      const HeadSplit& heads = split.bands.at(0);
      ASSERT_GE(heads.gpu, 0);
      ASSERT_GE(heads.dram, 0);
      ASSERT_GE(heads.ssd, 0);
      ASSERT_EQ(heads.gpu + heads.dram + heads.ssd, shape.heads);
      ASSERT_NEAR(heads.gpu, share.gpu() * shape.heads, 1.01);
      ASSERT_NEAR(heads.dram, share.dram() * shape.heads, 2.01);
      ASSERT_EQ(split.gpu_bytes, static_cast<std::uint64_t>(heads.gpu) * head);
      ASSERT_EQ(split.dram_bytes, static_cast<std::uint64_t>(heads.dram) * head);
      ASSERT_EQ(split.ssd_bytes, static_cast<std::uint64_t>(heads.ssd) * head);
      gpu += split.gpu_bytes;
      dram += split.dram_bytes;
      ssd += split.ssd_bytes;
      staged = std::max(staged, split.staged_bytes());
    }
  ASSERT_EQ(layout.total.gpu_bytes, gpu);
  ASSERT_EQ(layout.total.dram_bytes, dram);
  ASSERT_EQ(layout.total.ssd_bytes, ssd);
  ASSERT_GE(layout.total.file_bytes, ssd);
  ASSERT_EQ(layout.staged_bytes, staged);
  const auto total = static_cast<double>(gpu + dram + ssd);
  ASSERT_NEAR(static_cast<double>(gpu), share.gpu() * total, 1.01 * static_cast<double>(head));
  ASSERT_NEAR(static_cast<double>(dram), share.dram() * total, 2.01 * static_cast<double>(head));
  if (share.dram_percent == 0) {
    ASSERT_EQ(dram, 0U);
  }
  if (share.gpu_percent == 0) {
    ASSERT_EQ(gpu, 0U);
  }
  if (share.gpu_percent + share.dram_percent == 100) {
    ASSERT_EQ(ssd, 0U);
  }
}

TEST(CacheLayout, SpreadsHeadsEvenlyOverLayersAndSlots) {
  for (const std::int32_t heads : {1, 4, 12, 56})
    for (const double gpu : {0.0, 5.0, 20.0, 33.3, 50.0, 95.0, 100.0})
      for (const double part : {0.0, 0.25, 0.6, 1.0})
        for (const auto& [layers, slots] : {std::pair{1, 1}, std::pair{8, 3}, std::pair{48, 4}}) {
          check_layout({5, heads, 64, DType::float16}, layers, slots, share_of(gpu, (100 - gpu) * part));
          if (HasFatalFailure()) return;
        }
}

TEST(CacheLayout, SharesAreWithinTwoPercentOnceThereAreEnoughHeads) {
  const CacheShape shape{4, 12, 64, DType::float16};
  for (double gpu = 0; gpu <= 100; gpu += 3.7) {
    const CacheSplit total = plan_cache(shape, 12, one_band(2, 544, share_of(gpu, (100 - gpu) / 2))).total;
    const auto all = static_cast<double>(total.gpu_bytes + total.staged_bytes());
    EXPECT_NEAR(static_cast<double>(total.gpu_bytes) / all, gpu / 100, 0.02);
    EXPECT_NEAR(static_cast<double>(total.dram_bytes) / all, (100 - gpu) / 200, 0.02);
  }
}

TEST(CacheLayout, Sizes) {
  const CacheShape shape{2, 3, 64, DType::float16};
  EXPECT_EQ(shape.position_bytes(), 2U * 64 * 2);
  const CacheLayout all = plan_cache(shape, 5, one_band(7, 24, share_of(0, 0)));
  EXPECT_EQ(all.total.ssd_bytes, 5U * 7 * 24 * 3 * shape.position_bytes());
  EXPECT_EQ(all.staged_bytes, 24U * 3 * shape.position_bytes());
  EXPECT_EQ(all.total.file_bytes, 5U * 7 * 3 * 8192) << "three grains of 6144 bytes, in whole blocks";
  EXPECT_EQ(all.num_ssd_regions, 5 * 7 * 2);
  EXPECT_EQ(plan_cache(shape, 5, one_band(7, 24, share_of(100, 0))).staged_bytes, 0U);
}

TEST(CacheLayout, HugeCachesDoNotOverflow) {
  const CacheShape shape{64, 96, 128, DType::float32};
  const CacheSplit total = plan_cache(shape, 96, one_band(64, 64 * 2048, share_of(1, 2))).total;
  EXPECT_EQ(total.gpu_bytes + total.staged_bytes(), 64ULL * 96 * 2 * 128 * 4 * 2048 * 96 * 64);
}

TEST(CacheLayout, NoLayersNoCache) {
  const CacheSplit total = plan_cache({4, 4, 64, DType::float16}, 0, one_band(3, 40, share_of(50, 50))).total;
  EXPECT_EQ(total.gpu_bytes + total.staged_bytes(), 0U);
}

// Runs that do not overlap have memory that does not, on every tier and in the staging image, whatever the bands.
TEST(CacheLayout, RunsOfPositionsHaveMemoryOfTheirOwn) {
  const std::vector<CacheBand> mixed{{48, share_of(30, 40), false}};
  const std::vector<CacheBand> whole{{16, {100, 0}, false}, {24, {0, 100}, false}, {32, {0, 100}, true}};
  const CacheShape shape{6, 7, 24, DType::float16, {4, 8}};
  const CacheLayout layout = plan_cache(shape, 3, {mixed, whole});
  EXPECT_EQ(layout.first_host_position(0), 48);
  EXPECT_EQ(layout.first_host_position(1), 40);
  for (std::int32_t layer = 0; layer < 3; ++layer)
    for (std::int32_t slot = 0; slot < 2; ++slot) {
      struct Run {
        std::uint64_t begin, end;
      };
      std::array<std::vector<Run>, num_tiers> homes;
      std::vector<Run> staged;
      const CacheSplit& split = layout.split(layer, slot);
      const std::int32_t positions = slot == 0 ? 48 : 72;
      for (std::int32_t begin = 0; begin < positions; begin += cache_grain) {
        std::vector<CacheSegment> segments;
        layout.append_segments(layer, slot, begin, segments);
        std::int32_t heads = 0;
        EXPECT_EQ(layout.is_staged(layer, slot, begin), std::ranges::any_of(segments, [](const CacheSegment& segment) {
                    return segment.tier != TierKind::gpu;
                  }));
        for (const CacheSegment& segment : segments) {
          heads += segment.num_heads;
          const std::uint64_t bytes =
              static_cast<std::uint64_t>(cache_grain * segment.num_heads) * shape.position_bytes();
          homes[static_cast<std::size_t>(segment.tier)].push_back({segment.home_offset, segment.home_offset + bytes});
          if (segment.tier != TierKind::gpu) staged.push_back({segment.stage_offset, segment.stage_offset + bytes});
          if (segment.tier == TierKind::ssd) {
            EXPECT_EQ(segment.home_offset % piece_alignment, 0U);
          }
        }
        EXPECT_EQ(heads, shape.heads);
      }
      const auto expect_apart = [](std::vector<Run> runs, std::uint64_t size) {
        std::ranges::sort(runs, {}, &Run::begin);
        for (std::size_t i = 1; i < runs.size(); ++i) EXPECT_LE(runs[i - 1].end, runs[i].begin);
        EXPECT_LE(runs.empty() ? 0 : runs.back().end, size);
      };
      expect_apart(homes[static_cast<std::size_t>(TierKind::gpu)], split.gpu_bytes);
      expect_apart(homes[static_cast<std::size_t>(TierKind::dram)], split.dram_bytes);
      expect_apart(homes[static_cast<std::size_t>(TierKind::ssd)], split.file_bytes);
      expect_apart(staged, split.staged_bytes());
    }
  std::vector<CacheSegment> segments;
  EXPECT_THROW(layout.append_segments(0, 0, 48, segments), InternalError);
}

}  // namespace
}  // namespace flexgen::test
