// Where the KV cache of a slice lies: which (row, head) units of each (layer, micro-batch) are on which tier.
//
// The unit of placement is one head of one row: attention is independent per unit, so no unit is ever cut, and a
// share is met even with one row per micro-batch. Units are numbered row * heads + head; [0, gpu) [gpu, gpu + dram)
// [.., B * heads) are the tiers' ranges. A run of heads of one row on one tier is a segment, laid out
// [capacity positions][k, v][heads of the segment][head_dim] (compressed: spec/quantization.hpp), so a new position is
// appended in one piece and the positions so far are a prefix. Pure arithmetic.
#pragma once

#include <cstdint>
#include <vector>

#include "policy/memory_pieces.hpp"
#include "spec/dtype.hpp"
#include "spec/policy.hpp"

namespace flexgen {

struct CacheShape {
  std::int32_t rows = 0;  // B
  std::int32_t heads = 0;
  std::int32_t head_dim = 0;
  std::int32_t capacity = 0;  // positions per row
  DType dtype = DType::float32;
  QuantFormat format = {};  // none: dtype

  std::int64_t units() const { return static_cast<std::int64_t>(rows) * heads; }
  /// Bytes of one position of one unit, key and value.
  std::uint64_t position_bytes() const {
    if (!format.is_none()) return static_cast<std::uint64_t>(format.head_position_bytes(head_dim));
    return 2ULL * static_cast<std::uint64_t>(head_dim) * element_bytes(dtype);
  }
  std::uint64_t unit_bytes() const { return position_bytes() * static_cast<std::uint64_t>(capacity); }
};

/// Units of one (layer, slot) per tier.
struct CacheSplit {
  std::int64_t gpu_units = 0;
  std::int64_t dram_units = 0;
  std::int64_t ssd_units = 0;
};

struct CacheLayout {
  CacheShape shape;
  std::int32_t num_layers = 0;     // layers with a cache
  std::int32_t num_slots = 0;      // micro-batches of all groups
  std::vector<CacheSplit> splits;  // [layer * num_slots + slot]
  std::int64_t gpu_units = 0;
  std::int64_t dram_units = 0;
  std::int64_t ssd_units = 0;
  std::int64_t staged_units = 0;  // largest dram + ssd part of a (layer, slot)
  // Each row's units on ssd are a region of the scratch file, of whole blocks; rows there follow those elsewhere.
  std::uint64_t ssd_file_bytes = 0;
  std::int64_t num_ssd_regions = 0;

  const CacheSplit& split(std::int32_t layer, std::int32_t slot) const {
    return splits[static_cast<std::size_t>(layer) * static_cast<std::size_t>(num_slots) +
                  static_cast<std::size_t>(slot)];
  }
  /// With the last block of every region, which stays in memory until it is full.
  void name_home(MemoryPieces& pieces) const;
  /// Units of a row of such a split that lie on ssd.
  std::int64_t ssd_units_of(const CacheSplit& split, std::int32_t row) const;
  /// Bytes of the largest region on ssd that a row may have.
  std::uint64_t row_bytes() const { return static_cast<std::uint64_t>(shape.heads) * shape.unit_bytes(); }
  std::uint64_t gpu_bytes() const { return static_cast<std::uint64_t>(gpu_units) * shape.unit_bytes(); }
  std::uint64_t dram_bytes() const { return static_cast<std::uint64_t>(dram_units) * shape.unit_bytes(); }
  std::uint64_t ssd_bytes() const { return static_cast<std::uint64_t>(ssd_units) * shape.unit_bytes(); }
  std::uint64_t staged_bytes() const { return static_cast<std::uint64_t>(staged_units) * shape.unit_bytes(); }
};

/// `grain`: units that stay together, 1, or the heads of a row where whole rows are wanted.
CacheLayout plan_cache(const CacheShape& shape, std::int32_t num_layers, std::int32_t num_slots, const Share& share,
                       std::int32_t grain = 1);

}  // namespace flexgen
