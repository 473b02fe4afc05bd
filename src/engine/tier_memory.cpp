#include "engine/tier_memory.hpp"

#include <utility>

namespace flexgen {

static_assert(piece_alignment == direct_alignment);

TierMemory::TierMemory(const MemoryPieces& pieces, const Budgets& budgets, const Device& device,
                       std::filesystem::path offload_dir)
    : pieces_(pieces),
      device_(device),
      offload_dir_(std::move(offload_dir)),
      budgets_{TierBudget(TierKind::gpu, budgets.gpu_bytes), TierBudget(TierKind::dram, budgets.dram_bytes),
               TierBudget(TierKind::ssd, budgets.ssd_bytes)},
      arena_(pieces, device, budgets_[static_cast<std::size_t>(TierKind::gpu)]) {}

CountedBytes TierMemory::count_bytes(Piece piece, TierKind tier, std::uint64_t bytes, std::uint64_t taken_bytes) {
  TierBudget& budget = budget_of(tier);
  return {{budget, bytes, use_of(piece), piece_name(piece)},
          {budget, taken_bytes - bytes, MemoryUse::staging, piece_name(piece)}};
}

CountedBytes TierMemory::count(Piece piece, TierKind tier, std::uint64_t count) {
  const PlannedPiece& planned = pieces_.at(piece, tier);
  return count_bytes(piece, tier, planned.bytes * count, planned.stride_bytes() * count);
}

HostPiece TierMemory::on_host(Piece piece) {
  const PlannedPiece& planned = pieces_.at(piece, TierKind::dram);
  CountedBytes counted = count(piece, TierKind::dram, planned.count);
  return {Buffer(MemoryKind::pinned, planned.taken_bytes(), device_), planned.stride_bytes(), std::move(counted)};
}

HostScratch TierMemory::host_scratch() {
  constexpr Piece piece = Piece::host_scratch;
  if (device_.is_cuda()) {
    const PlannedPiece& planned = pieces_.at(piece, TierKind::dram);
    return {count(piece, TierKind::dram, planned.count), HostScratchReservation(planned.bytes)};
  }
  arena_.count(piece);
  return {{}, HostScratchReservation(pieces_.at(piece, TierKind::gpu).bytes)};
}

HostPiece TierMemory::part_on_host(Piece piece, std::uint64_t bytes, MemoryKind kind) {
  CountedBytes counted = count_bytes(piece, TierKind::dram, bytes, bytes);
  return {Buffer(kind, bytes, device_), bytes, std::move(counted)};
}

DiskPiece TierMemory::on_disk(Piece piece) {
  const PlannedPiece& planned = pieces_.at(piece, TierKind::ssd);
  return part_on_disk(piece, planned.content_bytes(), planned.taken_bytes());
}

DiskPiece TierMemory::part_on_disk(Piece piece, std::uint64_t bytes, std::uint64_t file_bytes) {
  if (file_bytes == 0) return {};
  CountedBytes counted = count_bytes(piece, TierKind::ssd, bytes, file_bytes);
  return {std::make_unique<ScratchStore>(offload_dir_, file_bytes), std::move(counted)};
}

std::optional<DiskStaging> TierMemory::disk_staging(const DiskPieces& pieces) {
  if (!pieces_.has(pieces.bounce, TierKind::dram)) return std::nullopt;
  DiskStaging staging;
  staging.bounce = count(pieces.bounce, TierKind::dram, 1);
  const std::uint64_t half_bytes = pieces_.at(pieces.halves, TierKind::dram).bytes;
  if (half_bytes > 0)
    for (HostPiece& half : staging.halves) half = part_on_host(pieces.halves, half_bytes, MemoryKind::pinned);
  return staging;
}

}  // namespace flexgen
