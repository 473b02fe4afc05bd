// The homes of hidden states between two layers: one place per micro-batch of a sweep, split over the tiers by bytes.
//
// Where everything lies on the gpu tier, the home is where layers compute, and nothing is ever copied. Elsewhere the
// states of a decode step, one token per row, have a place on the device all the same: they are small, and a way home
// and back would put a wait for a busy link between any two layers. Called from the tasks of the hidden streams; for
// one micro-batch the executor orders loads and stores.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/tier_memory.hpp"
#include "engine/transfer.hpp"
#include "policy/hidden_layout.hpp"
#include "storage/scratch_store.hpp"

namespace flexgen {

class HiddenStore {
 public:
  /// Takes Piece::hidden_home and, where that is not all on the gpu tier, Piece::decode_states.
  HiddenStore(const HiddenLayout& layout, TierMemory& memory);

  bool is_resident() const { return layout_.is_resident(); }
  bool uses_disk() const { return scratch_.store != nullptr; }
  std::uint64_t scratch_bytes() const { return scratch_.file_bytes(); }

  /// Where layers compute micro-batch k when its `bytes` stay on the device through a sweep; null: they go home.
  std::byte* resident(std::int32_t k, std::uint64_t bytes) const {
    const Place& place = places_[static_cast<std::size_t>(k)];
    return is_resident() ? place.gpu : bytes <= layout_.decode_bytes ? place.decode : nullptr;
  }

  void load(std::int32_t k, std::byte* to, std::uint64_t bytes, Transfer& transfer) const;
  void store(std::int32_t k, const std::byte* from, std::uint64_t bytes, Transfer& transfer);

 private:
  struct Place {
    std::byte* gpu = nullptr;
    std::byte* dram = nullptr;
    ScratchRegion ssd;
    std::byte* decode = nullptr;  // null when all is resident
  };

  HiddenLayout layout_;
  HostPiece dram_;
  DiskPiece scratch_;  // before places_: regions go back to it
  std::vector<Place> places_;
};

}  // namespace flexgen
