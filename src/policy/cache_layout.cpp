#include "policy/cache_layout.hpp"

#include <algorithm>

#include "base/bytes.hpp"
#include "policy/spread.hpp"

namespace flexgen {

namespace {

// A row that ends within what lies on ssd has a region of some heads, those after it of all.
void add_regions(const CacheSplit& split, CacheLayout& layout) {
  const CacheShape& shape = layout.shape;
  const std::int64_t whole = split.ssd_units / shape.heads, rest = split.ssd_units % shape.heads;
  const auto region_bytes = [&](std::int64_t units) {
    return align_up(static_cast<std::uint64_t>(units) * shape.unit_bytes(), piece_alignment);
  };
  layout.ssd_file_bytes += static_cast<std::uint64_t>(whole) * region_bytes(shape.heads) + region_bytes(rest);
  layout.num_ssd_regions += whole + (rest > 0 ? 1 : 0);
}

}  // namespace

std::int64_t CacheLayout::ssd_units_of(const CacheSplit& split, std::int32_t row) const {
  const std::int64_t first = shape.units() - split.ssd_units;
  const std::int64_t end = (row + 1LL) * shape.heads;
  return std::clamp<std::int64_t>(end - first, 0, shape.heads);
}

void CacheLayout::name_home(MemoryPieces& pieces) const {
  pieces.add(Piece::cache_home, TierKind::gpu, {gpu_bytes(), 1, piece_alignment});
  pieces.add(Piece::cache_home, TierKind::dram, {dram_bytes(), 1});
  pieces.add(Piece::cache_home, TierKind::ssd, {ssd_bytes(), 1, 1, ssd_file_bytes - ssd_bytes()});
  pieces.add(Piece::incomplete_blocks, TierKind::dram, {piece_alignment, static_cast<std::uint64_t>(num_ssd_regions)});
}

CacheLayout plan_cache(const CacheShape& shape, std::int32_t num_layers, std::int32_t num_slots, const Share& share,
                       std::int32_t grain) {
  CacheLayout layout;
  layout.shape = shape;
  layout.num_layers = num_layers;
  layout.num_slots = num_slots;
  Spread gpu(share.gpu());
  Spread dram(share.dram());
  const auto units = static_cast<std::uint64_t>(shape.units());
  for (std::int32_t i = 0; i < num_layers * num_slots; ++i) {
    CacheSplit split;
    split.gpu_units = static_cast<std::int64_t>(gpu.take(units, static_cast<std::uint64_t>(grain), units));
    const std::uint64_t rest = units - static_cast<std::uint64_t>(split.gpu_units);
    split.dram_units = static_cast<std::int64_t>(dram.take(units, static_cast<std::uint64_t>(grain), rest));
    if (share.ssd() < 1e-9) {  // rounding must not put a unit on a tier that was not asked for
      if (share.dram() < 1e-9) split.gpu_units = shape.units();
      split.dram_units = shape.units() - split.gpu_units;
    }
    split.ssd_units = shape.units() - split.gpu_units - split.dram_units;
    layout.gpu_units += split.gpu_units;
    layout.dram_units += split.dram_units;
    layout.ssd_units += split.ssd_units;
    layout.staged_units = std::max(layout.staged_units, split.dram_units + split.ssd_units);
    add_regions(split, layout);
    layout.splits.push_back(split);
  }
  return layout;
}

}  // namespace flexgen
