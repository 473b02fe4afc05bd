#include "engine/hidden_store.hpp"

#include <algorithm>

#include "base/bytes.hpp"

namespace flexgen {
namespace {
constexpr std::uint64_t grain = 64;  // a cache line; far below 2 % of any hidden state
}

std::pair<std::uint64_t, std::uint64_t> hidden_split(const Share& share, std::uint64_t bytes) {
  const auto part = [&](double fraction) {
    const double exact = std::max(0.0, fraction) * static_cast<double>(bytes);
    return std::min(bytes, align_down(static_cast<std::uint64_t>(exact) + grain / 2, grain));
  };
  const std::uint64_t gpu = share.gpu() > 1 - 1e-9 ? bytes : part(share.gpu());
  const std::uint64_t dram = share.ssd() < 1e-9 ? bytes - gpu : std::min(bytes - gpu, part(share.dram()));
  return {gpu, dram};
}

HiddenStore::HiddenStore(const Share& share, std::int32_t num_micro_batches, std::uint64_t place_bytes,
                         std::uint64_t decode_bytes, const Device& device, const std::filesystem::path& offload_dir,
                         Arena& arena)
    : share_(share),
      resident_(share.gpu() > 1 - 1e-9),
      decode_bytes_(decode_bytes),
      places_(static_cast<std::size_t>(num_micro_batches)) {
  const Split largest = split(place_bytes);
  const auto count = static_cast<std::uint64_t>(num_micro_batches);
  const std::uint64_t dram_place = align_up(largest.dram, grain);
  dram_ = Buffer(device.is_cuda() ? MemoryKind::pinned : MemoryKind::pageable, dram_place * count, device);
  if (largest.ssd > 0)
    scratch_ = std::make_unique<ScratchStore>(offload_dir, align_up(largest.ssd, direct_alignment) * count);
  for (std::size_t k = 0; k < places_.size(); ++k) {
    places_[k].gpu = arena.take(largest.gpu, "hidden states");
    places_[k].dram = dram_.data() ? dram_.data() + dram_place * k : nullptr;
    if (scratch_) places_[k].ssd = scratch_->allocate(largest.ssd, "hidden states");
    if (!resident_) places_[k].decode = arena.take(decode_bytes, "hidden states of decode");
  }
}

HiddenStore::Split HiddenStore::split(std::uint64_t bytes) const {
  const auto [gpu, dram] = hidden_split(share_, bytes);
  return {gpu, dram, bytes - gpu - dram};
}

void HiddenStore::load(std::int32_t k, std::byte* to, std::uint64_t bytes, Transfer& transfer) const {
  const Place& place = places_[static_cast<std::size_t>(k)];
  const Split parts = split(bytes);
  transfer.within_gpu(to, place.gpu, parts.gpu, "hidden");
  transfer.host_to_gpu(to + parts.gpu, place.dram, parts.dram, "hidden");
  if (parts.ssd == 0) return;
  const FileExtent extent = place.ssd.extent(0, parts.ssd);
  transfer.disk_to_gpu(to + parts.gpu + parts.dram, {&extent, 1}, "hidden");
}

void HiddenStore::store(std::int32_t k, const std::byte* from, std::uint64_t bytes, Transfer& transfer) {
  const Place& place = places_[static_cast<std::size_t>(k)];
  const Split parts = split(bytes);
  transfer.within_gpu(place.gpu, from, parts.gpu, "hidden");
  transfer.gpu_to_host(place.dram, from + parts.gpu, parts.dram, "hidden");
  if (parts.ssd > 0) transfer.gpu_to_disk(place.ssd, from + parts.gpu + parts.dram, parts.ssd, "hidden");
}

}  // namespace flexgen
