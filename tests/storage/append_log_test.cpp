// Regions that grow by pieces of any size hold what was appended, over all engines.
#include "storage/append_log.hpp"

#include <cerrno>
#include <cstring>

#include "base/bytes.hpp"
#include "tests/storage/io_engines.hpp"
#include "tests/support/faulty_io_queue.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

std::shared_ptr<const ScratchRegion> part_of(ScratchStore& store, std::uint64_t bytes) {
  return std::make_shared<const ScratchRegion>(store.allocate(bytes, "cache"));
}

class AppendRegionTest : public EngineTest {
 protected:
  void expect_content(const AppendRegion& region, std::uint64_t size, const std::vector<std::byte>& expected) {
    std::vector<std::byte> target(size + 1, std::byte{0x5A});
    region.read_prefix(*queue_, size, target.data());
    EXPECT_EQ(std::memcmp(target.data(), expected.data(), size), 0) << "prefix of " << size;
    EXPECT_EQ(target[size], std::byte{0x5A}) << "wrote past the prefix of " << size;
  }

  ScratchPlace place_;
};

TEST_P(AppendRegionTest, PiecesOfAnySizeReadBack) {
  ScratchStore store(place_.path(), 2 * MiB, {.nameless = true, .direct = direct()});
  const ScratchRegion other = store.allocate(4096, "neighbour");
  AppendRegion region(part_of(store, 1 * MiB));
  for (int round = 0; round < 2; ++round) {  // the second round reuses the room
    Numbers numbers(20 + static_cast<std::uint64_t>(round));
    const auto bytes = make_bytes(1 * MiB, 30 + static_cast<std::uint64_t>(round));
    std::uint64_t size = 0;
    while (size < 1 * MiB) {
      const std::uint64_t kinds[] = {numbers.below(28 * KiB), numbers.below(100), 4096, 300'000};
      const std::uint64_t piece = std::min(kinds[numbers.below(4)], 1 * MiB - size);
      region.append(*queue_, {bytes.data() + size, piece});
      size += piece;
      ASSERT_EQ(region.size_bytes(), size);
      expect_content(region, size, bytes);
      expect_content(region, numbers.below(size + 1), bytes);
    }
    region.restart(0);
    EXPECT_EQ(region.size_bytes(), 0u);
  }
}

TEST_P(AppendRegionTest, ManyRegionsGrowTogether) {
  constexpr std::size_t num_regions = 150;  // more than the queue is deep
  constexpr std::uint64_t capacity = 64 * KiB;
  ScratchStore store(place_.path(), num_regions * capacity, {.nameless = true, .direct = direct()});
  std::vector<AppendRegion> regions;
  std::vector<std::vector<std::byte>> contents;
  for (std::size_t i = 0; i < num_regions; ++i) {
    regions.emplace_back(part_of(store, capacity));
    contents.push_back(make_bytes(capacity, 1000 + i));
  }
  Numbers numbers(40);
  for (int step = 0; step < 6; ++step) {
    std::vector<AppendRegion::Append> appends;
    for (std::size_t i = 0; i < num_regions; ++i) {
      const std::byte* at = contents[i].data() + regions[i].size_bytes();
      appends.push_back({&regions[i], {at, 1 + numbers.below(10'000)}});
    }
    AppendRegion::append_many(*queue_, appends);
  }
  std::vector<std::vector<std::byte>> targets;
  std::vector<AppendRegion::Read> reads;
  for (const AppendRegion& region : regions) {
    targets.emplace_back(region.size_bytes());
    reads.push_back({&region, region.size_bytes(), targets.back().data()});
  }
  AppendRegion::read_many(*queue_, reads);
  for (std::size_t i = 0; i < num_regions; ++i) {
    EXPECT_EQ(std::memcmp(targets[i].data(), contents[i].data(), targets[i].size()), 0) << "region " << i;
  }
}

TEST_P(AppendRegionTest, SeveralShareAPartOfTheFile) {
  ScratchStore store(place_.path(), 64 * KiB, {.nameless = true, .direct = direct()});
  const auto part = part_of(store, 64 * KiB);
  AppendRegion low(part), high(part);
  high.restart(32 * KiB);
  EXPECT_EQ(high.capacity_bytes(), 32 * KiB);
  const auto first = make_bytes(30'000, 1), second = make_bytes(32 * KiB, 2), third = make_bytes(10'000, 3);
  const AppendRegion::Append both[] = {{&low, first}, {&high, second}};
  AppendRegion::append_many(*queue_, both);
  expect_content(low, first.size(), first);
  expect_content(high, second.size(), second);
  low.restart(16 * KiB);
  EXPECT_EQ(low.size_bytes(), 0U);
  low.append(*queue_, third);
  expect_content(low, third.size(), third);
  expect_content(high, second.size(), second);
  EXPECT_THROW(low.restart(100), InternalError);
  EXPECT_THROW(low.restart(68 * KiB), InternalError);
}

TEST_P(AppendRegionTest, AFailedAppendChangesNothing) {
  ScratchStore store(place_.path(), MiB, {.nameless = true, .direct = direct()});
  AppendRegion region(part_of(store, MiB));
  const auto bytes = make_bytes(MiB, 50);
  region.append(*queue_, {bytes.data(), 10'000});
  FaultyIoQueue full(IoQueue::make_pread(2), 0, ENOSPC);
  const AppendRegion::Append append{&region, {bytes.data() + 10'000, 20'000}};
  user_error(ExitCode::file, [&] { AppendRegion::append_many(full, {&append, 1}); });
  EXPECT_EQ(region.size_bytes(), 10'000u);
  expect_content(region, 10'000, bytes);
  AppendRegion::append_many(full, {&append, 1});
  expect_content(region, 30'000, bytes);
}

TEST_P(AppendRegionTest, MisuseIsCaught) {
  ScratchStore store(place_.path(), 64 * KiB, {.nameless = true, .direct = direct()});
  AppendRegion region(part_of(store, 8192));
  const auto bytes = make_bytes(8193, 60);
  EXPECT_THROW(region.append(*queue_, bytes), InternalError);
  const AppendRegion::Append twice[] = {{&region, {bytes.data(), 10}}, {&region, {bytes.data(), 10}}};
  EXPECT_THROW(AppendRegion::append_many(*queue_, twice), InternalError);
  EXPECT_EQ(region.size_bytes(), 0u);
  region.append(*queue_, {bytes.data(), 8192});
  std::vector<std::byte> target(8193);
  EXPECT_THROW(region.read_prefix(*queue_, 8193, target.data()), InternalError);
}

INSTANTIATE_TEST_SUITE_P(Engines, AppendRegionTest, ::testing::ValuesIn(all_engines), engine_name);

}  // namespace
}  // namespace flexgen::test
