#include "engine/arena.hpp"

namespace flexgen {

Arena::Arena(const MemoryPieces& pieces, const Device& device, TierBudget& budget)
    : pieces_(pieces), device_(device), budget_(budget) {
  const std::uint64_t size_bytes = pieces.taken_bytes(TierKind::gpu);
  budget_.take(size_bytes, MemoryUse::unclaimed, "what the policy puts on the gpu tier");
  buffer_ =
      Buffer(MemoryKind::device, size_bytes - pieces.at(Piece::host_scratch, TierKind::gpu).taken_bytes(), device);
}

void Arena::claim(const PlannedPiece& planned, Piece piece) {
  budget_.take(planned.content_bytes(), use_of(piece), piece_name(piece));
  budget_.take(planned.taken_bytes() - planned.content_bytes(), MemoryUse::staging, piece_name(piece));
}

void Arena::count(Piece piece) {
  const PlannedPiece& planned = pieces_.at(piece, TierKind::gpu);
  budget_.give_back(planned.taken_bytes(), MemoryUse::unclaimed);
  claim(planned, piece);
}

PieceView Arena::take(Piece piece) {
  const PlannedPiece& planned = pieces_.at(piece, TierKind::gpu);
  const std::uint64_t bytes = planned.taken_bytes();
  if (bytes == 0) return {};
  const bool is_planned = used_bytes_ + bytes <= buffer_.size_bytes();
  if (is_planned) budget_.give_back(bytes, MemoryUse::unclaimed);
  claim(planned, piece);
  if (!is_planned)
    return {beyond_plan_.emplace_back(MemoryKind::device, bytes, device_).data(), planned.stride_bytes()};
  used_bytes_ += bytes;
  return {buffer_.data() + used_bytes_ - bytes, planned.stride_bytes()};
}

}  // namespace flexgen
