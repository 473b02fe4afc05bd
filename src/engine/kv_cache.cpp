#include "engine/kv_cache.hpp"

#include <algorithm>

#include "base/error.hpp"

namespace flexgen {

KvCache::KvCache(CacheLayout layout, TierMemory& memory)
    : layout_(std::move(layout)),
      dram_(memory.on_host(Piece::cache_home)),
      scratch_(memory.on_disk(Piece::cache_home)),
      homes_(layout_.splits.size()) {
  const std::uint64_t unit_bytes = layout_.shape.unit_bytes();
  std::byte* gpu = memory.on_device(Piece::cache_home).data;
  std::byte* dram = dram_.data();
  for (std::size_t i = 0; i < homes_.size(); ++i) {
    homes_[i].gpu = gpu;
    homes_[i].dram = dram;
    if (gpu) gpu += static_cast<std::uint64_t>(layout_.splits[i].gpu_units) * unit_bytes;
    if (dram) dram += static_cast<std::uint64_t>(layout_.splits[i].dram_units) * unit_bytes;
  }
  if (!uses_disk()) return;
  take_regions();
  std::uint64_t num_regions = 0;
  for (const Home& home : homes_)
    num_regions += static_cast<std::uint64_t>(
        std::ranges::count_if(home.ssd, [](const AppendRegion& region) { return region.capacity_bytes() > 0; }));
  incomplete_blocks_ = memory.count(Piece::incomplete_blocks, TierKind::dram, num_regions);
}

void KvCache::take_regions() {
  const std::uint64_t unit_bytes = layout_.shape.unit_bytes();
  for (std::size_t i = 0; i < homes_.size(); ++i) {
    homes_[i].ssd.resize(static_cast<std::size_t>(layout_.shape.rows));
    for (std::int32_t row = 0; row < layout_.shape.rows; ++row)
      if (const std::int64_t units = layout_.ssd_units_of(layout_.splits[i], row); units > 0)
        homes_[i].ssd[static_cast<std::size_t>(row)] =
            AppendRegion(scratch_.store->allocate(static_cast<std::uint64_t>(units) * unit_bytes, "KV cache"));
  }
}

std::size_t KvCache::index(std::int32_t layer, std::int32_t slot) const {
  return static_cast<std::size_t>(layer) * static_cast<std::size_t>(layout_.num_slots) + static_cast<std::size_t>(slot);
}

bool KvCache::is_staged(std::int32_t layer, std::int32_t slot, std::span<const CacheRow> rows) const {
  const std::int64_t gpu_units = layout_.split(layer, slot).gpu_units;
  return std::any_of(rows.begin(), rows.end(),
                     [&](const CacheRow& row) { return (row.cache_row + 1LL) * layout_.shape.heads > gpu_units; });
}

std::uint64_t KvCache::position_bytes(const Segment& segment) const {
  return layout_.shape.position_bytes() * static_cast<std::uint64_t>(segment.num_heads);
}

std::vector<KvCache::Segment> KvCache::segments(const CacheSplit& split, std::int32_t cache_row) const {
  const std::int64_t heads = layout_.shape.heads;
  const std::int64_t begin = cache_row * heads;
  const std::int64_t gpu_end = split.gpu_units;
  const std::int64_t dram_end = gpu_end + split.dram_units;
  const std::uint64_t unit_bytes = layout_.shape.unit_bytes();
  std::vector<Segment> found;
  const auto add = [&](TierKind tier, std::int64_t tier_begin, std::int64_t tier_end) {
    const std::int64_t from = std::max(begin, tier_begin);
    const std::int64_t to = std::min(begin + heads, tier_end);
    if (from >= to) return;
    Segment segment;
    segment.tier = tier;
    segment.first_head = static_cast<std::int32_t>(from - begin);
    segment.num_heads = static_cast<std::int32_t>(to - from);
    segment.home_offset = static_cast<std::uint64_t>(from - tier_begin) * unit_bytes;
    if (tier != TierKind::gpu) segment.stage_offset = static_cast<std::uint64_t>(from - gpu_end) * unit_bytes;
    found.push_back(segment);
  };
  add(TierKind::gpu, 0, gpu_end);
  add(TierKind::dram, gpu_end, dram_end);
  add(TierKind::ssd, dram_end, layout_.shape.units());
  return found;
}

namespace {

// Layout: policy/cache_layout.hpp and, compressed, spec/quantization.hpp.
KvHead* fill_segment(const CacheShape& shape, std::byte* base, std::int32_t heads, KvHead* out) {
  if (shape.format.is_none()) {
    const std::uint64_t head_bytes = static_cast<std::uint64_t>(shape.head_dim) * element_bytes(shape.dtype);
    for (std::int32_t h = 0; h < heads; ++h)
      *out++ = {base + static_cast<std::uint64_t>(h) * head_bytes, 2 * heads * shape.head_dim, heads * shape.head_dim,
                0, 0};
    return out;
  }
  const auto codes = static_cast<std::int32_t>(shape.format.code_bytes(shape.head_dim));
  const auto parameters = static_cast<std::int32_t>(shape.format.parameter_bytes(shape.head_dim));
  const std::int32_t all_codes = heads * codes;
  for (std::int32_t h = 0; h < heads; ++h) {
    const std::int32_t k_parameters = 2 * all_codes + h * (parameters - codes);  // from this head's own codes on
    *out++ = {base + static_cast<std::uint64_t>(h) * static_cast<std::uint64_t>(codes),
              2 * (all_codes + heads * parameters), all_codes, k_parameters, k_parameters + heads * parameters};
  }
  return out;
}

}  // namespace

template <class Base>
void KvCache::fill(std::int32_t layer, std::int32_t slot, std::span<const CacheRow> rows, std::span<KvHead> heads,
                   const Base& base) const {
  KvHead* out = heads.data();
  for (const CacheRow& row : rows)
    for (const Segment& segment : segments(layout_.split(layer, slot), row.cache_row))
      out = fill_segment(layout_.shape, base(homes_[index(layer, slot)], segment), segment.num_heads, out);
  FLEXGEN_CHECK(out == heads.data() + heads.size(), "cache table does not match its rows");
}

void KvCache::fill_table(std::int32_t layer, std::int32_t slot, std::span<const CacheRow> rows, std::byte* stage,
                         std::span<KvHead> heads) const {
  fill(layer, slot, rows, heads, [stage](const Home& home, const Segment& segment) {
    return segment.tier == TierKind::gpu ? home.gpu + segment.home_offset : stage + segment.stage_offset;
  });
}

void KvCache::fill_host_table(std::int32_t layer, std::int32_t slot, std::span<const CacheRow> rows,
                              std::span<KvHead> heads) const {
  fill(layer, slot, rows, heads, [](const Home& home, const Segment& segment) {
    FLEXGEN_CHECK(segment.tier == TierKind::dram, "a row that the host attends for does not lie in dram");
    return home.dram + segment.home_offset;
  });
}

void KvCache::load(std::int32_t layer, std::int32_t slot, std::span<const CacheRow> rows, std::byte* stage,
                   Transfer& transfer) {
  Home& home = homes_[index(layer, slot)];
  std::vector<Transfer::RegionLoad> from_disk;
  for (const CacheRow& row : rows) {
    for (const Segment& segment : segments(layout_.split(layer, slot), row.cache_row)) {
      const std::uint64_t bytes = static_cast<std::uint64_t>(row.start) * position_bytes(segment);
      if (segment.tier == TierKind::gpu || bytes == 0) continue;
      std::byte* to = stage + segment.stage_offset;
      if (segment.tier == TierKind::dram) transfer.host_to_gpu(to, home.dram + segment.home_offset, bytes, "cache");
      else from_disk.push_back({&home.ssd[static_cast<std::size_t>(row.cache_row)], bytes, to});
    }
  }
  if (!from_disk.empty()) transfer.regions_to_gpu(from_disk, "cache");
}

void KvCache::store(std::int32_t layer, std::int32_t slot, std::span<const CacheRow> rows, const std::byte* stage,
                    Transfer& transfer) {
  Home& home = homes_[index(layer, slot)];
  std::vector<Transfer::RegionStore> to_disk;
  for (const CacheRow& row : rows) {
    for (const Segment& segment : segments(layout_.split(layer, slot), row.cache_row)) {
      if (segment.tier == TierKind::gpu) continue;
      const std::uint64_t begin = static_cast<std::uint64_t>(row.start) * position_bytes(segment);
      const std::uint64_t bytes = static_cast<std::uint64_t>(row.count) * position_bytes(segment);
      const std::byte* from = stage + segment.stage_offset + begin;
      if (segment.tier == TierKind::dram) {
        transfer.gpu_to_host(home.dram + segment.home_offset + begin, from, bytes, "cache");
        continue;
      }
      AppendRegion& region = home.ssd[static_cast<std::size_t>(row.cache_row)];
      if (row.start == 0) region.clear();  // a new row takes the place over
      to_disk.push_back({&region, from, bytes});
    }
  }
  if (!to_disk.empty()) transfer.gpu_to_regions(to_disk, "cache");
}

}  // namespace flexgen
