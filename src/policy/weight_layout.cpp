#include "policy/weight_layout.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "base/bytes.hpp"
#include "policy/spread.hpp"

namespace flexgen {
namespace {

struct Owner {
  std::int32_t pack = 0;
  std::uint64_t offset = 0;
};

// Gives every weight a pack and an offset; a shared weight lives in the pack of the first layer that names it.
void lay_out_packs(std::span<const LayerDescription> layers, DType dtype, const QuantFormat& format,
                   WeightLayout& layout) {
  std::map<std::string, Owner> shared;
  layout.packs.reserve(layers.size());
  layout.layers.reserve(layers.size());
  for (std::size_t j = 0; j < layers.size(); ++j) {
    WeightPack pack;
    LayerWeights weights;
    weights.places.reserve(layers[j].weights.size());
    for (const WeightSpec& spec : layers[j].weights) {
      WeightPlace place;
      place.quant = stored_format(spec.role, format);
      place.bytes = stored_bytes(spec, dtype, place.quant);
      const auto known = spec.shared_as.empty() ? shared.end() : shared.find(spec.shared_as);
      if (known != shared.end()) {
        place.pack = known->second.pack;
        place.offset = known->second.offset;
      } else {
        place.pack = static_cast<std::int32_t>(j);
        place.offset = align_up(pack.bytes, weight_alignment);
        pack.bytes = place.offset + place.bytes;
        if (!spec.shared_as.empty()) shared[spec.shared_as] = {place.pack, place.offset};
      }
      weights.places.push_back(place);
    }
    layout.packs.push_back(pack);
    layout.layers.push_back(std::move(weights));
  }
}

// Marks the tables that are used in place, in both tiers. What is on ssd must be loaded, and with it the rest.
void mark_lookups(std::span<const LayerDescription> layers, const Share& share, WeightLayout& layout) {
  if (share.ssd() >= 1e-9) return;
  for (std::size_t j = 0; j < layers.size(); ++j)
    for (std::size_t w = 0; w < layers[j].weights.size(); ++w)
      layout.layers[j].places[w].looked_up = is_lookup_table(layers[j], layers[j].weights[w]);
}

// A table that is used in place is cut between two rows.
void cut_between_rows(std::span<const WeightSpec> weights, LayerWeights& layer, WeightPack& pack) {
  for (std::size_t w = 0; w < weights.size(); ++w) {
    WeightPlace& place = layer.places[w];
    if (!place.looked_up || pack.gpu_bytes <= place.offset) continue;
    const std::uint64_t row_bytes = place.bytes / static_cast<std::uint64_t>(weights[w].rows);
    const std::uint64_t num_rows = std::min(place.bytes, pack.gpu_bytes - place.offset) / row_bytes;
    place.gpu_rows = static_cast<std::int64_t>(num_rows);
    if (place.gpu_rows < weights[w].rows) pack.gpu_bytes = place.offset + num_rows * row_bytes;
  }
}

void split_packs(std::span<const LayerDescription> layers, const Share& share, WeightLayout& layout) {
  Spread gpu(share.gpu());
  Spread dram(share.dram());
  for (std::size_t j = 0; j < layout.packs.size(); ++j) {
    WeightPack& pack = layout.packs[j];
    // A pack of a tiny model is split at a finer grain: the share counts more than direct I/O there.
    const std::uint64_t grain = pack.bytes >= 256 * split_alignment ? split_alignment : weight_alignment;
    pack.gpu_bytes = gpu.take(pack.bytes, grain, pack.bytes);
    cut_between_rows(layers[j].weights, layout.layers[j], pack);
    pack.dram_bytes = dram.take(pack.bytes, grain, pack.bytes - pack.gpu_bytes);
    if (share.ssd() < 1e-9) pack.dram_bytes = share.dram() < 1e-9 ? 0 : pack.bytes - pack.gpu_bytes;
    if (share.ssd() < 1e-9 && share.dram() < 1e-9) pack.gpu_bytes = pack.bytes;
    pack.gpu_offset = layout.gpu_home_bytes;
    layout.gpu_home_bytes += align_up(pack.gpu_bytes, piece_alignment);
    layout.ssd_file_bytes += align_up(pack.ssd_bytes(), piece_alignment);
    layout.gpu_bytes += pack.gpu_bytes;
    layout.dram_bytes += pack.dram_bytes;
    layout.ssd_bytes += pack.ssd_bytes();
  }
}

// A layer loads, from each pack it uses, the image from its first weight that is not resident to its last.
void plan_loads(WeightLayout& layout) {
  for (LayerWeights& layer : layout.layers) {
    std::vector<PackRange>& images = layer.loads;  // few: a layer's own pack, and that of a table it shares
    for (WeightPlace& place : layer.places) {
      const WeightPack& pack = layout.packs[static_cast<std::size_t>(place.pack)];
      place.resident = place.offset + place.bytes <= pack.gpu_bytes;
      if (place.resident || place.looked_up) continue;
      auto image = std::ranges::find(images, place.pack, &PackRange::pack);
      if (image == images.end()) image = images.insert(image, {place.pack, place.offset, place.offset, 0});
      image->begin = std::min(image->begin, align_down(place.offset, split_alignment));
      image->end = std::max(image->end, place.offset + place.bytes);
    }
    std::ranges::sort(images, {}, &PackRange::pack);
    for (PackRange& image : images) {
      image.slot_offset = layer.slot_bytes;
      layer.slot_bytes = align_up(layer.slot_bytes + image.end - image.begin, split_alignment);
    }
    for (WeightPlace& place : layer.places)
      if (!place.resident && !place.looked_up) {
        const PackRange& image = *std::ranges::find(images, place.pack, &PackRange::pack);
        place.slot_offset = image.slot_offset + place.offset - image.begin;
      }
    layout.slot_bytes = std::max(layout.slot_bytes, layer.slot_bytes);
  }
}

}  // namespace

void WeightLayout::name_home(MemoryPieces& pieces) const {
  pieces.add(Piece::weights_home, TierKind::gpu, {gpu_bytes, 1, 1, gpu_home_bytes - gpu_bytes});
  pieces.add(Piece::weights_home, TierKind::dram, {dram_bytes, 1});
  pieces.add(Piece::weights_home, TierKind::ssd, {ssd_bytes, 1, 1, ssd_file_bytes - ssd_bytes});
}

std::uint64_t plain_layer_bytes(const LayerDescription& layer, DType dtype) {
  std::uint64_t bytes = 0;
  for (const WeightSpec& weight : layer.weights)
    if (is_made_plain(weight)) bytes += align_up(stored_bytes(weight, dtype, {}), weight_alignment);
  return bytes;
}

WeightLayout plan_weights(std::span<const LayerDescription> layers, DType dtype, const Share& share,
                          const QuantFormat& format, bool reads_dram) {
  WeightLayout layout;
  lay_out_packs(layers, dtype, format, layout);
  if (reads_dram) mark_lookups(layers, share, layout);
  split_packs(layers, share, layout);
  plan_loads(layout);
  return layout;
}

}  // namespace flexgen
