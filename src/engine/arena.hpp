// The gpu tier: one allocation of the planned size on the computing device, handed out in pieces that live as long as
// it. What threads of the host take by themselves counts to the tier of a host device, but is no part of the
// allocation.
//
// Not thread-safe; used while a stage is built.
#pragma once

#include <cstdint>
#include <vector>

#include "device/buffer.hpp"
#include "policy/memory_pieces.hpp"
#include "storage/tier_budget.hpp"

namespace flexgen {

/// Memory of one piece, part by part; null where the plan has none.
struct PieceView {
  std::byte* data = nullptr;
  std::uint64_t stride_bytes = 0;

  std::byte* operator[](std::size_t part) const { return data ? data + part * stride_bytes : nullptr; }
};

class Arena {
 public:
  /// Takes all that the plan has on the gpu tier at once; in the budget it is unclaimed until pieces are asked for.
  Arena(const MemoryPieces& pieces, const Device& device, TierBudget& budget);

  /// 4096-byte aligned. What goes beyond the planned size gets an allocation of its own, counted like the rest.
  /// Throws UserError (does_not_fit) when the budget is exceeded.
  PieceView take(Piece piece);
  /// Counts the piece as taken elsewhere: Piece::host_scratch.
  void count(Piece piece);

 private:
  void claim(const PlannedPiece& planned, Piece piece);

  const MemoryPieces& pieces_;
  Device device_;
  TierBudget& budget_;
  Buffer buffer_;
  std::uint64_t used_bytes_ = 0;
  std::vector<Buffer> beyond_plan_;
};

}  // namespace flexgen
