// All memory of a stage: what the plan names, taken by name, counted against the tiers' budgets as it is taken.
//
// Owns budgets and the gpu tier's arena, and must outlive what was taken. `part_on_host` and the budgets are
// thread-safe, the rest is used by the thread that builds the stage.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include "device/buffer.hpp"
#include "engine/arena.hpp"
#include "ops/host_scratch.hpp"
#include "policy/memory_pieces.hpp"
#include "spec/policy.hpp"
#include "storage/scratch_store.hpp"
#include "storage/tier_budget.hpp"

namespace flexgen {

/// What was taken of a budget: the bytes that are used, and what rounding them up costs.
struct CountedBytes {
  BudgetShare content;
  BudgetShare rounding;
};

/// A piece in host memory, part by part. Move-only.
class HostPiece {
 public:
  HostPiece() = default;
  HostPiece(Buffer buffer, std::uint64_t stride_bytes, CountedBytes counted)
      : buffer_(std::move(buffer)), view_{buffer_.data(), stride_bytes}, counted_(std::move(counted)) {}
  /// Of the arena: on the host device both sides are one.
  explicit HostPiece(PieceView view) : view_(view) {}

  std::byte* data() const { return view_.data; }
  std::byte* operator[](std::size_t part) const { return view_[part]; }
  std::uint64_t offset(std::size_t part) const { return part * view_.stride_bytes; }
  /// Empty where the memory is the arena's.
  const Buffer& buffer() const { return buffer_; }

 private:
  Buffer buffer_;
  PieceView view_;
  CountedBytes counted_;
};

/// A piece in a scratch file of its own. Move-only.
struct DiskPiece {
  std::unique_ptr<ScratchStore> store;  // null: nothing is in it
  CountedBytes counted;

  std::uint64_t file_bytes() const { return store ? store->capacity_bytes() : 0; }
};

/// What one stream needs between the disk and the device: two pinned halves where that is a GPU, and room for what is
/// not aligned, which its I/O queue takes.
struct DiskStaging {
  std::array<HostPiece, 2> halves;
  CountedBytes bounce;
};

/// Scratch of the host's threads: they take it as they need it, no more than is reserved and counted here.
struct HostScratch {
  CountedBytes counted;  // empty where the arena's budget has it
  HostScratchReservation reserved;
};

class TierMemory {
 public:
  /// Takes the gpu tier. `pieces` must outlive this. Throws UserError (does_not_fit).
  TierMemory(const MemoryPieces& pieces, const Budgets& budgets, const Device& device,
             std::filesystem::path offload_dir);

  const Device& device() const { return device_; }
  const TierBudget& budget(TierKind tier) const { return budgets_[static_cast<std::size_t>(tier)]; }

  /// Of one part of a piece of the computing device.
  std::uint64_t part_bytes(Piece piece) const { return pieces_.at(piece, TierKind::gpu).bytes; }
  /// Of a piece in dram; 0: the plan has none.
  std::uint64_t num_parts_on_host(Piece piece) const { return pieces_.at(piece, TierKind::dram).count; }

  // All below throw UserError (does_not_fit) when a budget is exceeded; a piece that the plan has not is empty.

  /// Memory of the computing device.
  PieceView on_device(Piece piece) { return arena_.take(piece); }
  /// Memory of dram, pinned where there is a GPU.
  HostPiece on_host(Piece piece);
  /// Host memory for what a GPU has or leaves beside: its twin in dram. On the host device both are one, of the arena.
  HostPiece host_side(Piece piece) { return device_.is_cuda() ? on_host(piece) : HostPiece(on_device(piece)); }
  HostScratch host_scratch();
  /// `bytes` of a piece in dram whose parts differ.
  HostPiece part_on_host(Piece piece, std::uint64_t bytes, MemoryKind kind);
  /// A scratch file for the whole piece.
  DiskPiece on_disk(Piece piece);
  /// For `bytes` of it, which take `file_bytes` of disk.
  DiskPiece part_on_disk(Piece piece, std::uint64_t bytes, std::uint64_t file_bytes);
  /// Of one more stream; none where the plan has nothing of the class on ssd.
  std::optional<DiskStaging> disk_staging(const DiskPieces& pieces);
  /// Counts what is taken elsewhere: `count` parts, all on one tier.
  CountedBytes count(Piece piece, TierKind tier, std::uint64_t count);
  CountedBytes count_bytes(Piece piece, TierKind tier, std::uint64_t bytes, std::uint64_t taken_bytes);

 private:
  TierBudget& budget_of(TierKind tier) { return budgets_[static_cast<std::size_t>(tier)]; }

  const MemoryPieces& pieces_;
  Device device_;
  std::filesystem::path offload_dir_;
  std::array<TierBudget, num_tiers> budgets_;
  Arena arena_;
};

}  // namespace flexgen
