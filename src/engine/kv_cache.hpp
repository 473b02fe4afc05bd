// The KV cache of a slice in its homes, and its way to and from the staging memory of the computing device.
//
// Layout and placement: policy/cache_layout.hpp. Heads on the gpu tier are read and appended in place; the others are
// loaded to a staging image of the same layout before a computation, and only the new positions are stored after it.
// load is called from one stream's tasks and store from another's; for one (layer, slot) the executor orders them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/tier_memory.hpp"
#include "engine/transfer.hpp"
#include "ops/batch_view.hpp"
#include "policy/cache_layout.hpp"
#include "storage/append_log.hpp"

namespace flexgen {

/// An active row of a micro-batch, as far as the cache is concerned.
struct CacheRow {
  std::int32_t cache_row = 0;  // place in the slot
  std::int32_t begin = 0;      // first of the slot's positions that are its own
  std::int32_t start = 0;      // of its own positions, those that exist
  std::int32_t count = 0;      // positions that are being added
  std::int32_t own_begin = 0;  // positions before its own, which it shares
};

class KvCache {
 public:
  /// Takes Piece::cache_home.
  KvCache(CacheLayout layout, TierMemory& memory);

  const CacheLayout& layout() const { return layout_; }
  bool uses_disk() const { return layout_.total.ssd_bytes > 0; }
  std::uint64_t scratch_bytes() const { return scratch_.file_bytes(); }
  /// Anything of these rows of a (layer, slot) outside the gpu tier?
  bool is_staged(std::int32_t layer, std::int32_t slot, std::span<const CacheRow> rows) const;

  /// Fills the table of the computing op: heads[i * num_heads + h] for the i-th active row.
  void fill_table(std::int32_t layer, std::int32_t slot, std::span<const CacheRow> rows, std::byte* stage,
                  std::span<KvHead> heads) const;

  /// The same for the host, of rows that lie in dram: where they are at home.
  void fill_host_table(std::int32_t layer, std::int32_t slot, std::span<const CacheRow> rows,
                       std::span<KvHead> heads) const;

  /// Brings positions [0, start) of the rows' staged heads to `stage`.
  void load(std::int32_t layer, std::int32_t slot, std::span<const CacheRow> rows, std::byte* stage,
            Transfer& transfer);
  /// Takes positions [start, start + count) of the rows' staged heads home.
  void store(std::int32_t layer, std::int32_t slot, std::span<const CacheRow> rows, const std::byte* stage,
             Transfer& transfer);

 private:
  struct Home {  // of one (layer, slot)
    std::byte* gpu = nullptr;
    std::byte* dram = nullptr;
    std::vector<AppendRegion> ssd;  // by row; empty where nothing lies on ssd
  };
  void take_regions();
  // visit(row, segment), in the order of rows and heads.
  template <class Visit>
  void for_each_segment(std::int32_t layer, std::int32_t slot, std::span<const CacheRow> rows,
                        const Visit& visit) const;
  // A table of the rows' heads; base(home, segment) says where a segment begins.
  template <class Base>
  void fill(std::int32_t layer, std::int32_t slot, std::span<const CacheRow> rows, std::span<KvHead> heads,
            const Base& base) const;
  std::size_t index(std::int32_t layer, std::int32_t slot) const;
  std::uint64_t position_bytes(const CacheSegment& segment) const;

  CacheLayout layout_;
  HostPiece dram_;
  DiskPiece scratch_;               // before homes_: regions go back to it
  CountedBytes incomplete_blocks_;  // which the regions keep in memory
  std::vector<Home> homes_;
};

}  // namespace flexgen
