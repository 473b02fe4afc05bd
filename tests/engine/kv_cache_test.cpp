// The cache against plain memory: random rows come, grow and are replaced, under every kind of split. Staging memory is
// poisoned before each load, so that a byte which was not brought, or brought from elsewhere, shows.
#include "engine/kv_cache.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "tests/support/planned_tiers.hpp"

namespace flexgen::test {
namespace {

constexpr CacheShape shape{5, 3, 12, DType::float32};  // a row: 288 bytes a position, some six disk blocks
constexpr std::int32_t num_layers = 2, num_slots = 2;
constexpr std::int32_t row_positions = 96, num_runs = 7;  // more than rows: a new row may lie elsewhere

// Key and value of one position of one head, as one run of bytes.
using Position = std::vector<std::byte>;

class PlainCache {
 public:
  std::vector<Position>& head(std::int32_t layer, std::int32_t slot, std::int32_t row, std::int32_t h) {
    return heads_[static_cast<std::size_t>(((layer * num_slots + slot) * shape.rows + row) * shape.heads + h)];
  }

 private:
  std::vector<std::vector<Position>> heads_{
      static_cast<std::size_t>(num_layers * num_slots * shape.rows * shape.heads)};
};

class KvCacheTest : public ::testing::TestWithParam<Share> {
 protected:
  KvCacheTest()
      : layout_(
            plan_cache(shape, num_layers,
                       std::vector(num_slots, std::vector<CacheBand>{{row_positions * num_runs, GetParam(), false}}))),
        tiers_(home_of(layout_)),
        cache_(layout_, tiers_.memory()),
        loads_(stream_, host_staging(cache_.uses_disk())),
        stores_(stream_, host_staging(cache_.uses_disk())),
        stage_(layout_.staged_bytes) {}

  static std::size_t half_bytes() { return static_cast<std::size_t>(shape.head_dim) * element_bytes(shape.dtype); }

  // One computation on random rows of a micro-batch: load, check the past, write the new positions, store.
  void step(std::int32_t layer, std::int32_t slot) {
    const std::vector<CacheRow> rows = choose_rows(layer, slot);
    std::fill(stage_.begin(), stage_.end(), std::byte{0xCD});
    cache_.load(layer, slot, rows, stage_.data(), loads_);
    std::vector<KvHead> table(rows.size() * static_cast<std::size_t>(shape.heads));
    cache_.fill_table(layer, slot, rows, stage_.data(), table);
    for (std::size_t i = 0; i < rows.size(); ++i)
      for (std::int32_t h = 0; h < shape.heads; ++h)
        visit_head(table[i * static_cast<std::size_t>(shape.heads) + static_cast<std::size_t>(h)], rows[i],
                   plain_.head(layer, slot, rows[i].cache_row, h));
    cache_.store(layer, slot, rows, stage_.data(), stores_);
  }

  std::vector<CacheRow> choose_rows(std::int32_t layer, std::int32_t slot) {
    std::vector<CacheRow> rows;
    for (std::int32_t r = 0; r < shape.rows; ++r) {
      if (random(4) == 0) continue;  // finished, or not begun
      std::vector<Position>& first_head = plain_.head(layer, slot, r, 0);
      const bool is_new =
          first_head.empty() || random(8) == 0 || static_cast<std::int32_t>(first_head.size()) == row_positions;
      if (is_new)
        for (std::int32_t h = 0; h < shape.heads; ++h) plain_.head(layer, slot, r, h).clear();
      const auto start = static_cast<std::int32_t>(first_head.size());
      const std::int32_t most = is_new ? 40 : random(3) == 0 ? 20 : 1;
      if (is_new) move_to_a_free_run(layer, slot, r);
      rows.push_back({r, runs_[run_index(layer, slot, r)] * row_positions, start,
                      std::min(row_positions - start, 1 + random(most))});
    }
    std::shuffle(rows.begin(), rows.end(), generator_);
    return rows;
  }

  void visit_head(const KvHead& head, const CacheRow& row, std::vector<Position>& plain) {
    const std::uint64_t size = element_bytes(shape.dtype);
    const auto key_at = [&](std::int32_t p) {
      return head.base + static_cast<std::uint64_t>(p) * static_cast<std::uint64_t>(head.position_stride) * size;
    };
    const std::uint64_t to_value = static_cast<std::uint64_t>(head.v_offset) * size;
    for (std::int32_t p = 0; p < row.start; ++p) {
      const Position& expected = plain[static_cast<std::size_t>(p)];
      ASSERT_EQ(std::memcmp(key_at(p), expected.data(), half_bytes()), 0)
          << "key of row " << row.cache_row << " at " << p;
      ASSERT_EQ(std::memcmp(key_at(p) + to_value, expected.data() + half_bytes(), half_bytes()), 0)
          << "value of row " << row.cache_row << " at " << p;
    }
    for (std::int32_t p = row.start; p < row.start + row.count; ++p) {
      Position fresh(2 * half_bytes());
      for (std::byte& value : fresh) value = static_cast<std::byte>(generator_());
      std::memcpy(key_at(p), fresh.data(), half_bytes());
      std::memcpy(key_at(p) + to_value, fresh.data() + half_bytes(), half_bytes());
      plain.push_back(std::move(fresh));
    }
  }

  std::int32_t random(std::int32_t below) {
    return static_cast<std::int32_t>(generator_() % static_cast<std::uint32_t>(below));
  }

  static std::size_t run_index(std::int32_t layer, std::int32_t slot, std::int32_t row) {
    return static_cast<std::size_t>((layer * num_slots + slot) * shape.rows + row);
  }
  void move_to_a_free_run(std::int32_t layer, std::int32_t slot, std::int32_t row) {
    const auto first = runs_.begin() + static_cast<std::ptrdiff_t>(run_index(layer, slot, 0));
    std::int32_t& own = runs_[run_index(layer, slot, row)];
    own = -1;
    std::int32_t run = random(num_runs);
    while (std::find(first, first + shape.rows, run) != first + shape.rows) run = (run + 1) % num_runs;
    own = run;
  }

  const CacheLayout& layout() const { return layout_; }
  const KvCache& cache() const { return cache_; }
  const PlannedTiers& tiers() const { return tiers_; }

 private:
  std::mt19937 generator_{7};
  CacheLayout layout_;
  PlannedTiers tiers_;
  Stream stream_{"test", Stream::Mode::inline_tasks, Device{}};
  KvCache cache_;
  Transfer loads_, stores_;
  std::vector<std::byte> stage_;
  PlainCache plain_;
  std::vector<std::int32_t> runs_ =
      std::vector<std::int32_t>(static_cast<std::size_t>(num_layers * num_slots * shape.rows), -1);
};

TEST_P(KvCacheTest, GivesBackWhatWasStored) {
  for (int round = 0; round < 30 && !HasFatalFailure(); ++round)
    for (std::int32_t layer = 0; layer < num_layers; ++layer)
      for (std::int32_t slot = 0; slot < num_slots; ++slot) step(layer, slot);
}

TEST_P(KvCacheTest, LiesWhereItWasAskedToLie) {
  const double total = static_cast<double>(layout().total.gpu_bytes + layout().total.staged_bytes());
  EXPECT_NEAR(static_cast<double>(layout().total.gpu_bytes) / total, GetParam().gpu(), 0.045) << "of twelve heads";
  EXPECT_NEAR(static_cast<double>(layout().total.ssd_bytes) / total, GetParam().ssd(), 0.045);
  EXPECT_EQ(cache().uses_disk(), GetParam().ssd() > 0);
  EXPECT_GE(cache().scratch_bytes(), layout().total.ssd_bytes);
  const std::vector<CacheRow> all{{0, 0, 0, 1}, {4, row_positions, 0, 1}};
  EXPECT_EQ(cache().is_staged(0, 0, all), layout().split(0, 0).staged_bytes() > 0);
}

TEST_P(KvCacheTest, TakesWhatItsLayoutNames) {
  EXPECT_EQ(tiers().used_bytes(TierKind::gpu, MemoryUse::cache), layout().total.gpu_bytes);
  EXPECT_EQ(tiers().used_bytes(TierKind::dram, MemoryUse::cache), layout().total.dram_bytes);
  EXPECT_EQ(tiers().used_bytes(TierKind::ssd, MemoryUse::cache), layout().total.ssd_bytes);
  for (const TierKind tier : {TierKind::gpu, TierKind::dram, TierKind::ssd})
    EXPECT_EQ(tiers().used_bytes(tier, MemoryUse::staging), tiers().pieces().taken_bytes(tier, MemoryUse::staging));
  EXPECT_EQ(cache().scratch_bytes(), layout().total.file_bytes);
  EXPECT_EQ(tiers().used_bytes(TierKind::gpu, MemoryUse::unclaimed), 0U);
}

INSTANTIATE_TEST_SUITE_P(Splits, KvCacheTest,
                         ::testing::Values(Share{100, 0}, Share{0, 100}, Share{0, 0}, Share{0, 50}, Share{50, 50},
                                           Share{20, 30}, Share{33, 34}, Share{95, 0}),
                         [](const auto& info) {
                           return "gpu" + std::to_string(static_cast<int>(info.param.gpu_percent)) + "dram" +
                                  std::to_string(static_cast<int>(info.param.dram_percent));
                         });

}  // namespace
}  // namespace flexgen::test
