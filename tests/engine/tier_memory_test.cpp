// Whoever takes memory is counted as it takes it, by tier and use, and nobody gets past a budget.
#include "engine/tier_memory.hpp"

#include <gtest/gtest.h>

#include "base/error.hpp"
#include "tests/support/planned_tiers.hpp"

namespace flexgen::test {
namespace {

MemoryPieces some_pieces() {
  MemoryPieces pieces;
  pieces.add(Piece::cache_home, TierKind::gpu, {5000, 1, piece_alignment});
  pieces.add(Piece::cache_home, TierKind::dram, {3000, 1});
  pieces.add(Piece::cache_home, TierKind::ssd, {5000, 1, piece_alignment});
  pieces.add(Piece::hidden_slots, TierKind::gpu, {100, 3, piece_alignment});
  pieces.add(Piece::workspace, TierKind::gpu, {4096, 1, piece_alignment});
  pieces.add(Piece::cache_disk_halves, TierKind::dram, {8192, 4});
  pieces.add(Piece::cache_disk_bounce, TierKind::dram, {4096, 2});
  return pieces;
}

TEST(TierMemory, HandsTheArenaOutPieceByPiece) {
  PlannedTiers tiers(some_pieces());
  const TierBudget& gpu = tiers.memory().budget(TierKind::gpu);
  EXPECT_EQ(gpu.used_bytes(), 6U * 4096);
  EXPECT_EQ(gpu.used_bytes(MemoryUse::unclaimed), 6U * 4096) << "taken, but nobody has it";
  const PieceView cache = tiers.memory().on_device(Piece::cache_home);
  const PieceView slots = tiers.memory().on_device(Piece::hidden_slots);
  const PieceView workspace = tiers.memory().on_device(Piece::workspace);
  EXPECT_EQ(slots.data - cache.data, 8192);
  EXPECT_EQ(slots[2] - slots[0], 2 * 4096);
  EXPECT_EQ(workspace.data - slots.data, 3 * 4096);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(cache.data) % 4096, 0U);
  EXPECT_EQ(gpu.used_bytes(MemoryUse::unclaimed), 0U);
  EXPECT_EQ(gpu.used_bytes(MemoryUse::cache), 5000U);
  EXPECT_EQ(gpu.used_bytes(MemoryUse::workspace), 4096U);
  EXPECT_EQ(gpu.used_bytes(MemoryUse::staging), 6U * 4096 - 5000 - 4096);
  EXPECT_EQ(gpu.peak_bytes(), 6U * 4096);
  EXPECT_EQ(tiers.memory().on_device(Piece::scores).data, nullptr) << "not in the plan";
}

TEST(TierMemory, CountsScratchOfTheHostsThreadsBesideTheArena) {
  MemoryPieces pieces = some_pieces();
  pieces.add(Piece::host_scratch, TierKind::gpu, {8192, 3});
  PlannedTiers tiers(pieces);
  const TierBudget& gpu = tiers.memory().budget(TierKind::gpu);
  EXPECT_EQ(gpu.used_bytes(MemoryUse::unclaimed), 6U * 4096 + 3 * 8192);
  const HostScratch scratch = tiers.memory().host_scratch();
  EXPECT_EQ(gpu.used_bytes(MemoryUse::unclaimed), 6U * 4096);
  EXPECT_EQ(gpu.used_bytes(MemoryUse::workspace), 3U * 8192);
  EXPECT_NE(tiers.memory().on_device(Piece::cache_home).data, nullptr);
  EXPECT_EQ(gpu.peak_bytes(), 6U * 4096 + 3 * 8192);
}

TEST(TierMemory, CountsWhatLivesAndNoLonger) {
  PlannedTiers tiers(some_pieces());
  const TierBudget& dram = tiers.memory().budget(TierKind::dram);
  const TierBudget& ssd = tiers.memory().budget(TierKind::ssd);
  {
    const HostPiece host = tiers.memory().on_host(Piece::cache_home);
    const DiskPiece disk = tiers.memory().on_disk(Piece::cache_home);
    EXPECT_EQ(host.buffer().size_bytes(), 3000U);
    EXPECT_EQ(disk.file_bytes(), 8192U);
    EXPECT_EQ(dram.used_bytes(MemoryUse::cache), 3000U);
    EXPECT_EQ(ssd.used_bytes(MemoryUse::cache), 5000U);
    EXPECT_EQ(ssd.used_bytes(MemoryUse::staging), 8192U - 5000);
    const std::optional<DiskStaging> one = tiers.memory().disk_staging(disk_pieces_of_cache);
    EXPECT_EQ(one->halves[0].buffer().size_bytes(), 8192U);
    EXPECT_NE(one->halves[0].data(), one->halves[1].data());
    EXPECT_EQ(dram.used_bytes(MemoryUse::staging), 2U * 8192 + 4096) << "of one stream";
    const std::optional<DiskStaging> two = tiers.memory().disk_staging(disk_pieces_of_cache);
    EXPECT_EQ(dram.used_bytes(MemoryUse::staging), tiers.pieces().taken_bytes(TierKind::dram, MemoryUse::staging));
    EXPECT_FALSE(tiers.memory().disk_staging(disk_pieces_of_weights)) << "no weights on ssd";
  }
  EXPECT_EQ(dram.used_bytes(), 0U);
  EXPECT_EQ(ssd.used_bytes(), 0U);
  EXPECT_EQ(dram.peak_bytes(MemoryUse::cache), 3000U);
}

TEST(TierMemory, TheHostsSideOfTheHostDeviceIsTheArenas) {
  MemoryPieces pieces;
  pieces.add(Piece::index_arrays, TierKind::gpu, {100, 2, piece_alignment});
  PlannedTiers tiers(pieces);
  const HostPiece host = tiers.memory().host_side(Piece::index_arrays);
  EXPECT_EQ(host[1] - host[0], 4096);
  EXPECT_EQ(host.offset(1), 4096U);
  EXPECT_EQ(host.buffer().size_bytes(), 0U);
  EXPECT_EQ(tiers.memory().budget(TierKind::gpu).used_bytes(MemoryUse::unclaimed), 0U);
  EXPECT_EQ(tiers.memory().budget(TierKind::dram).used_bytes(), 0U);
}

TEST(TierMemory, WhoTakesMoreThanItsPieceIsCounted) {
  PlannedTiers tiers(some_pieces());
  const std::uint64_t planned = tiers.pieces().taken_bytes(TierKind::gpu);
  for (const Piece piece : {Piece::cache_home, Piece::hidden_slots, Piece::workspace}) tiers.memory().on_device(piece);
  const PieceView again = tiers.memory().on_device(Piece::cache_home);
  ASSERT_NE(again.data, nullptr);
  std::fill_n(again.data, 5000, std::byte{1});  // it is there
  EXPECT_EQ(tiers.used_bytes(TierKind::gpu, MemoryUse::cache), 2U * 5000);
  EXPECT_EQ(tiers.memory().budget(TierKind::gpu).peak_bytes(), planned + 8192);
  const HostPiece first = tiers.memory().on_host(Piece::cache_home), second = tiers.memory().on_host(Piece::cache_home);
  EXPECT_EQ(tiers.used_bytes(TierKind::dram, MemoryUse::cache), 2U * 3000);
}

TEST(TierMemory, NobodyGetsPastABudget) {
  const ScratchPlace scratch;
  const MemoryPieces pieces = some_pieces();
  const auto refused = [](const std::function<void()>& take) {
    try {
      take();
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::does_not_fit);
      return std::string(error.what());
    }
    return std::string("taken");
  };
  const std::uint64_t gpu = pieces.taken_bytes(TierKind::gpu);
  EXPECT_NE(refused([&] {
              TierMemory(pieces, {gpu - 1, GiB, GiB}, Device{}, scratch.path());
            }).find("--gpu-mem"),
            std::string::npos);
  TierMemory exact(pieces, {gpu, 5999, 16383}, Device{}, scratch.path());
  for (const Piece piece : {Piece::cache_home, Piece::hidden_slots, Piece::workspace}) exact.on_device(piece);
  EXPECT_NE(refused([&] { exact.on_device(Piece::cache_home); }).find("the KV cache"), std::string::npos);
  const HostPiece host = exact.on_host(Piece::cache_home);
  EXPECT_NE(refused([&] { exact.on_host(Piece::cache_home); }).find("--cpu-mem"), std::string::npos);
  const DiskPiece disk = exact.on_disk(Piece::cache_home);
  EXPECT_NE(refused([&] { exact.on_disk(Piece::cache_home); }).find("--disk-mem"), std::string::npos);
  EXPECT_EQ(exact.budget(TierKind::dram).used_bytes(), 3000U) << "a refusal takes nothing";
  EXPECT_EQ(exact.budget(TierKind::ssd).used_bytes(), 8192U);
}

}  // namespace
}  // namespace flexgen::test
