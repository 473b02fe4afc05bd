#include "policy/cache_layout.hpp"

#include <algorithm>
#include <utility>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "policy/spread.hpp"

namespace flexgen {
namespace {

// Of the scratch file, for a grain of positions of so many heads.
std::uint64_t grain_file_bytes(const CacheShape& shape, std::int32_t heads) {
  return align_up(static_cast<std::uint64_t>(cache_grain * heads) * shape.position_bytes(), piece_alignment);
}

// Spreads the heads of bands over the tiers, so that the shares are right over all layers and slots.
class HeadSpread {
 public:
  HeadSpread(std::int32_t heads, const Share& share)
      : heads_(static_cast<std::uint64_t>(heads)), share_(share), gpu_(share.gpu()), dram_(share.dram()) {}

  HeadSplit next() {
    HeadSplit split;
    split.gpu = static_cast<std::int32_t>(gpu_.take(heads_, 1, heads_));
    const auto heads = static_cast<std::int32_t>(heads_);
    split.dram = static_cast<std::int32_t>(dram_.take(heads_, 1, heads_ - static_cast<std::uint64_t>(split.gpu)));
    if (share_.ssd() < 1e-9) {  // rounding must not put a head on a tier that was not asked for
      if (share_.dram() < 1e-9) split.gpu = heads;
      split.dram = heads - split.gpu;
    }
    split.ssd = heads - split.gpu - split.dram;
    return split;
  }

  const Share& share() const { return share_; }

 private:
  std::uint64_t heads_;
  Share share_;
  Spread gpu_, dram_;
};

void add_band(const CacheShape& shape, const CacheBand& band, std::size_t index, const HeadSplit& heads,
              CacheSplit& split) {
  const auto bytes = [&](std::int32_t count) {
    return static_cast<std::uint64_t>(band.num_positions) * static_cast<std::uint64_t>(count) * shape.position_bytes();
  };
  split.bands[index] = heads;
  split.gpu_bytes += bytes(heads.gpu);
  split.dram_bytes += bytes(heads.dram);
  split.ssd_bytes += bytes(heads.ssd);
  split.file_bytes += static_cast<std::uint64_t>(band.num_positions / cache_grain) * grain_file_bytes(shape, heads.ssd);
}

void add_split(const CacheSplit& split, CacheLayout& layout) {
  layout.total.gpu_bytes += split.gpu_bytes;
  layout.total.dram_bytes += split.dram_bytes;
  layout.total.ssd_bytes += split.ssd_bytes;
  layout.total.file_bytes += split.file_bytes;
  layout.staged_bytes = std::max(layout.staged_bytes, split.staged_bytes());
  if (split.ssd_bytes > 0) layout.num_ssd_regions += layout.shape.rows;
  layout.splits.push_back(split);
}

}  // namespace

void CacheLayout::append_segments(std::int32_t layer, std::int32_t slot, std::int32_t begin,
                                  std::vector<CacheSegment>& segments) const {
  const std::vector<CacheBand>& in_slot = bands[static_cast<std::size_t>(slot)];
  const CacheSplit& at = split(layer, slot);
  const std::uint64_t position = shape.position_bytes();
  std::uint64_t gpu = 0, dram = 0, file = 0, staged = 0;
  for (std::size_t b = 0; b < in_slot.size(); ++b) {
    const HeadSplit& heads = at.bands[b];
    const bool is_there = begin < in_slot[b].num_positions;
    const auto positions = static_cast<std::uint64_t>(is_there ? begin : in_slot[b].num_positions);
    const auto all = static_cast<std::uint64_t>(in_slot[b].num_positions);
    const auto run = [&](std::uint64_t count, std::int32_t of) {
      return count * static_cast<std::uint64_t>(of) * position;
    };
    gpu += run(positions, heads.gpu);
    dram += run(positions, heads.dram);
    file += positions / cache_grain * grain_file_bytes(shape, heads.ssd);
    if (!is_there) {
      begin -= in_slot[b].num_positions;
      staged += run(all, heads.dram + heads.ssd);
      continue;
    }
    if (heads.gpu > 0) segments.push_back({TierKind::gpu, heads.gpu, gpu, 0});
    if (heads.dram > 0) segments.push_back({TierKind::dram, heads.dram, dram, staged + run(positions, heads.dram)});
    if (heads.ssd > 0)
      segments.push_back({TierKind::ssd, heads.ssd, file, staged + run(all, heads.dram) + run(positions, heads.ssd)});
    return;
  }
  FLEXGEN_CHECK(false, "a row's cache lies outside its slot");
}

bool CacheLayout::is_staged(std::int32_t layer, std::int32_t slot, std::int32_t begin) const {
  const std::vector<CacheBand>& in_slot = bands[static_cast<std::size_t>(slot)];
  std::size_t band = 0;
  for (; band + 1 < in_slot.size() && begin >= in_slot[band].num_positions; ++band)
    begin -= in_slot[band].num_positions;
  return split(layer, slot).bands[band].gpu < shape.heads;
}

std::int32_t CacheLayout::first_host_position(std::int32_t slot) const {
  std::int32_t position = 0;
  for (const CacheBand& band : bands[static_cast<std::size_t>(slot)]) {
    if (band.attended_by_host) break;
    position += band.num_positions;
  }
  return position;
}

void CacheLayout::name_home(MemoryPieces& pieces) const {
  pieces.add(Piece::cache_home, TierKind::gpu, {total.gpu_bytes, 1, piece_alignment});
  pieces.add(Piece::cache_home, TierKind::dram, {total.dram_bytes, 1});
  pieces.add(Piece::cache_home, TierKind::ssd, {total.ssd_bytes, 1, 1, total.file_bytes - total.ssd_bytes});
  pieces.add(Piece::incomplete_blocks, TierKind::dram, {piece_alignment, static_cast<std::uint64_t>(num_ssd_regions)});
}

CacheLayout plan_cache(const CacheShape& shape, std::int32_t num_layers, std::vector<std::vector<CacheBand>> bands) {
  CacheLayout layout;
  layout.shape = shape;
  layout.num_layers = num_layers;
  layout.num_slots = static_cast<std::int32_t>(bands.size());
  layout.bands = std::move(bands);
  for (const std::vector<CacheBand>& slot : layout.bands)
    FLEXGEN_CHECK(slot.size() <= most_bands, "a slot's cache lies in too many bands");
  layout.splits.reserve(static_cast<std::size_t>(num_layers) * layout.bands.size());
  std::vector<HeadSpread> spreads;  // one for all bands of a share
  const auto spread_of = [&](const Share& share) -> HeadSpread& {
    const auto found = std::ranges::find(spreads, share, &HeadSpread::share);
    return found != spreads.end() ? *found : spreads.emplace_back(shape.heads, share);
  };
  for (std::int32_t layer = 0; layer < num_layers; ++layer)
    for (const std::vector<CacheBand>& slot : layout.bands) {
      CacheSplit split;
      for (std::size_t b = 0; b < slot.size(); ++b) add_band(shape, slot[b], b, spread_of(slot[b].share).next(), split);
      add_split(split, layout);
    }
  return layout;
}

}  // namespace flexgen
