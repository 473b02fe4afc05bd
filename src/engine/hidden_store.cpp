#include "engine/hidden_store.hpp"

namespace flexgen {

HiddenStore::HiddenStore(const HiddenLayout& layout, TierMemory& memory)
    : layout_(layout),
      dram_(memory.on_host(Piece::hidden_home)),
      scratch_(memory.on_disk(Piece::hidden_home)),
      places_(static_cast<std::size_t>(layout.num_places)) {
  const PieceView gpu = memory.on_device(Piece::hidden_home);
  const PieceView decode = memory.on_device(Piece::decode_states);
  for (std::size_t k = 0; k < places_.size(); ++k) {
    places_[k].gpu = gpu[k];
    places_[k].dram = dram_[k];
    places_[k].decode = decode[k];
    if (scratch_.store) places_[k].ssd = scratch_.store->allocate(layout_.place().ssd, "hidden states");
  }
}

void HiddenStore::load(std::int32_t k, std::byte* to, std::uint64_t bytes, Transfer& transfer) const {
  const Place& place = places_[static_cast<std::size_t>(k)];
  const HiddenSplit parts = split_hidden(layout_.share, bytes);
  transfer.within_gpu(to, place.gpu, parts.gpu, "hidden");
  transfer.host_to_gpu(to + parts.gpu, place.dram, parts.dram, "hidden");
  if (parts.ssd == 0) return;
  const FileExtent extent = place.ssd.extent(0, parts.ssd);
  transfer.disk_to_gpu(to + parts.gpu + parts.dram, {&extent, 1}, "hidden");
}

void HiddenStore::store(std::int32_t k, const std::byte* from, std::uint64_t bytes, Transfer& transfer) {
  const Place& place = places_[static_cast<std::size_t>(k)];
  const HiddenSplit parts = split_hidden(layout_.share, bytes);
  transfer.within_gpu(place.gpu, from, parts.gpu, "hidden");
  transfer.gpu_to_host(place.dram, from + parts.gpu, parts.dram, "hidden");
  if (parts.ssd > 0) transfer.gpu_to_disk(place.ssd, from + parts.gpu + parts.dram, parts.ssd, "hidden");
}

}  // namespace flexgen
