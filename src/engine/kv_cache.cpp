#include "engine/kv_cache.hpp"

#include <algorithm>

#include "base/error.hpp"

namespace flexgen {

KvCache::KvCache(CacheLayout layout, TierMemory& memory)
    : layout_(std::move(layout)),
      dram_(memory.on_host(Piece::cache_home)),
      scratch_(memory.on_disk(Piece::cache_home)),
      homes_(layout_.splits.size()) {
  std::byte* gpu = memory.on_device(Piece::cache_home).data;
  std::byte* dram = dram_.data();
  for (std::size_t i = 0; i < homes_.size(); ++i) {
    homes_[i].gpu = gpu;
    homes_[i].dram = dram;
    if (gpu) gpu += layout_.splits[i].gpu_bytes;
    if (dram) dram += layout_.splits[i].dram_bytes;
  }
  if (!uses_disk()) return;
  take_regions();
  incomplete_blocks_ =
      memory.count(Piece::incomplete_blocks, TierKind::dram, static_cast<std::uint64_t>(layout_.num_ssd_regions));
}

void KvCache::take_regions() {
  for (std::size_t i = 0; i < homes_.size(); ++i) {
    if (layout_.splits[i].file_bytes == 0) continue;
    const auto part =
        std::make_shared<const ScratchRegion>(scratch_.store->allocate(layout_.splits[i].file_bytes, "KV cache"));
    for (std::int32_t row = 0; row < layout_.shape.rows; ++row) homes_[i].ssd.emplace_back(part);
  }
}

std::size_t KvCache::index(std::int32_t layer, std::int32_t slot) const {
  return static_cast<std::size_t>(layer) * static_cast<std::size_t>(layout_.num_slots) + static_cast<std::size_t>(slot);
}

template <class Visit>
void KvCache::for_each_segment(std::int32_t layer, std::int32_t slot, std::span<const CacheRow> rows,
                               const Visit& visit) const {
  std::vector<CacheSegment> segments;
  for (const CacheRow& row : rows) {
    segments.clear();
    layout_.append_segments(layer, slot, row.begin, segments);
    for (const CacheSegment& segment : segments) visit(row, segment);
  }
}

bool KvCache::is_staged(std::int32_t layer, std::int32_t slot, std::span<const CacheRow> rows) const {
  return std::ranges::any_of(rows, [&](const CacheRow& row) { return layout_.is_staged(layer, slot, row.begin); });
}

std::uint64_t KvCache::position_bytes(const CacheSegment& segment) const {
  return layout_.shape.position_bytes() * static_cast<std::uint64_t>(segment.num_heads);
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
  for_each_segment(layer, slot, rows, [&](const CacheRow&, const CacheSegment& segment) {
    out = fill_segment(layout_.shape, base(homes_[index(layer, slot)], segment), segment.num_heads, out);
  });
  FLEXGEN_CHECK(out == heads.data() + heads.size(), "cache table does not match its rows");
}

void KvCache::fill_table(std::int32_t layer, std::int32_t slot, std::span<const CacheRow> rows, std::byte* stage,
                         std::span<KvHead> heads) const {
  fill(layer, slot, rows, heads, [stage](const Home& home, const CacheSegment& segment) {
    return segment.tier == TierKind::gpu ? home.gpu + segment.home_offset : stage + segment.stage_offset;
  });
}

void KvCache::fill_host_table(std::int32_t layer, std::int32_t slot, std::span<const CacheRow> rows,
                              std::span<KvHead> heads) const {
  fill(layer, slot, rows, heads, [](const Home& home, const CacheSegment& segment) {
    FLEXGEN_CHECK(segment.tier == TierKind::dram, "a row that the host attends for does not lie in dram");
    return home.dram + segment.home_offset;
  });
}

void KvCache::load(std::int32_t layer, std::int32_t slot, std::span<const CacheRow> rows, std::byte* stage,
                   Transfer& transfer) {
  Home& home = homes_[index(layer, slot)];
  std::vector<Transfer::RegionLoad> from_disk;
  for_each_segment(layer, slot, rows, [&](const CacheRow& row, const CacheSegment& segment) {
    const std::uint64_t bytes = static_cast<std::uint64_t>(row.start) * position_bytes(segment);
    if (segment.tier == TierKind::gpu || bytes == 0) return;
    std::byte* to = stage + segment.stage_offset;
    if (segment.tier == TierKind::dram) transfer.host_to_gpu(to, home.dram + segment.home_offset, bytes, "cache");
    else from_disk.push_back({&home.ssd[static_cast<std::size_t>(row.cache_row)], bytes, to});
  });
  if (!from_disk.empty()) transfer.regions_to_gpu(from_disk, "cache");
}

void KvCache::store(std::int32_t layer, std::int32_t slot, std::span<const CacheRow> rows, const std::byte* stage,
                    Transfer& transfer) {
  Home& home = homes_[index(layer, slot)];
  std::vector<Transfer::RegionStore> to_disk;
  for_each_segment(layer, slot, rows, [&](const CacheRow& row, const CacheSegment& segment) {
    if (segment.tier == TierKind::gpu) return;
    const std::uint64_t begin = static_cast<std::uint64_t>(row.start) * position_bytes(segment);
    const std::uint64_t bytes = static_cast<std::uint64_t>(row.count) * position_bytes(segment);
    const std::byte* from = stage + segment.stage_offset + begin;
    if (segment.tier == TierKind::dram) {
      transfer.gpu_to_host(home.dram + segment.home_offset + begin, from, bytes, "cache");
      return;
    }
    AppendRegion& region = home.ssd[static_cast<std::size_t>(row.cache_row)];
    if (row.start == 0) region.restart(segment.home_offset);  // a new row takes the place over
    to_disk.push_back({&region, from, bytes});
  });
  if (!to_disk.empty()) transfer.gpu_to_regions(to_disk, "cache");
}

}  // namespace flexgen
