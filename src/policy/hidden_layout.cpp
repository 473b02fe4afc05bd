#include "policy/hidden_layout.hpp"

#include <algorithm>

#include "base/bytes.hpp"

namespace flexgen {
HiddenSplit split_hidden(const Share& share, std::uint64_t bytes) {
  const auto part = [&](double fraction) {
    const double exact = std::max(0.0, fraction) * static_cast<double>(bytes);
    return std::min(bytes, align_down(static_cast<std::uint64_t>(exact) + cache_line_bytes / 2, cache_line_bytes));
  };
  const std::uint64_t gpu = share.gpu() > 1 - 1e-9 ? bytes : part(share.gpu());
  const std::uint64_t dram = share.ssd() < 1e-9 ? bytes - gpu : std::min(bytes - gpu, part(share.dram()));
  return {gpu, dram, bytes - gpu - dram};
}

void HiddenLayout::name_home(MemoryPieces& pieces) const {
  const HiddenSplit one = place();
  const auto count = static_cast<std::uint64_t>(num_places);
  pieces.add(Piece::hidden_home, TierKind::gpu, {one.gpu, count, piece_alignment});
  pieces.add(Piece::hidden_home, TierKind::dram, {one.dram, count, cache_line_bytes});
  pieces.add(Piece::hidden_home, TierKind::ssd, {one.ssd, count, piece_alignment});
  if (!is_resident()) pieces.add(Piece::decode_states, TierKind::gpu, {decode_bytes, count, piece_alignment});
}

}  // namespace flexgen
