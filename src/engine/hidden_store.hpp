// The homes of hidden states between two layers: one place per micro-batch of a sweep, split over the tiers by bytes.
//
// Where everything lies on the gpu tier, the home is where layers compute, and nothing is ever copied. Elsewhere the
// states of a decode step, one token per row, have a place on the device all the same: they are small, and a way home
// and back would put a wait for a busy link between any two layers. Called from the tasks of the hidden streams; for
// one micro-batch the executor orders loads and stores.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "device/buffer.hpp"
#include "engine/arena.hpp"
#include "engine/transfer.hpp"
#include "spec/policy.hpp"
#include "storage/scratch_store.hpp"

namespace flexgen {

class HiddenStore {
 public:
  /// @param place_bytes   of one micro-batch at its largest
  /// @param decode_bytes  of one micro-batch, at most, that stays on the device wherever its home is
  HiddenStore(const Share& share, std::int32_t num_micro_batches, std::uint64_t place_bytes, std::uint64_t decode_bytes,
              const Device& device, const std::filesystem::path& offload_dir, Arena& arena);

  bool is_resident() const { return resident_; }
  bool uses_disk() const { return scratch_ != nullptr; }
  std::uint64_t scratch_bytes() const { return scratch_ ? scratch_->capacity_bytes() : 0; }

  /// Where layers compute micro-batch k when its `bytes` stay on the device through a sweep; null: they go home.
  std::byte* resident(std::int32_t k, std::uint64_t bytes) const {
    const Place& place = places_[static_cast<std::size_t>(k)];
    return resident_ ? place.gpu : bytes <= decode_bytes_ ? place.decode : nullptr;
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
  struct Split {
    std::uint64_t gpu = 0;
    std::uint64_t dram = 0;
    std::uint64_t ssd = 0;
  };
  Split split(std::uint64_t bytes) const;

  Share share_;
  bool resident_;
  std::uint64_t decode_bytes_;
  Buffer dram_;
  std::unique_ptr<ScratchStore> scratch_;  // before places_: regions go back to it
  std::vector<Place> places_;
};

/// How `bytes` of hidden states are cut by a share: gpu and dram part; the rest lies on ssd.
std::pair<std::uint64_t, std::uint64_t> hidden_split(const Share& share, std::uint64_t bytes);

}  // namespace flexgen
