// Where the hidden states of a block lie between two layers: one place per micro-batch, split over the tiers by bytes.
//
// One sweep runs at a time on a rank, so its block's hidden states are all there is. Pure arithmetic.
#pragma once

#include <cstdint>

#include "policy/memory_pieces.hpp"
#include "spec/policy.hpp"

namespace flexgen {

/// Bytes of one micro-batch's hidden states on each tier, in this order.
struct HiddenSplit {
  std::uint64_t gpu = 0;
  std::uint64_t dram = 0;
  std::uint64_t ssd = 0;
};

/// How `bytes` of hidden states are cut by a share: to a cache line, far below 2 % of any of them, and whole where the
/// share is all.
HiddenSplit split_hidden(const Share& share, std::uint64_t bytes);

struct HiddenLayout {
  Share share;
  std::int32_t num_places = 0;     // micro-batches
  std::uint64_t place_bytes = 0;   // of one at its largest
  std::uint64_t decode_bytes = 0;  // of one that decodes: so much stays on the device wherever its home is

  bool is_resident() const { return share.gpu() > 1 - 1e-9; }
  HiddenSplit place() const { return split_hidden(share, place_bytes); }
  /// With the places for the states of a decode step, where not all is resident.
  void name_home(MemoryPieces& pieces) const;
};

}  // namespace flexgen
