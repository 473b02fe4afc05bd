// Where the KV cache of a slice lies: which heads of the sequences of each (layer, micro-batch) are on which tier.
//
// The rows of a micro-batch share its positions: a sequence takes a run of them (spec/block_limits.hpp). The unit of
// placement is a head of all of them, numbered [0, gpu) [gpu, gpu + dram) [.., heads): attention is independent per
// head, so no unit is ever cut, and a share is met even with one row per micro-batch. Where the host attends, whole
// sequences lie on one tier: then the positions are cut into bands, each with heads of its own. A sequence's heads on
// one tier are a segment, laid out [positions][k, v][heads of the segment][head_dim] (compressed:
// spec/quantization.hpp), so a new position is appended in one piece and the positions so far are a prefix; the
// segments of a band follow one another by position. Pure arithmetic.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "policy/block_limits.hpp"
#include "policy/memory_pieces.hpp"
#include "spec/dtype.hpp"
#include "spec/policy.hpp"

namespace flexgen {

struct CacheShape {
  std::int32_t rows = 0;  // places of a slot: B, and those of what rows share
  std::int32_t heads = 0;
  std::int32_t head_dim = 0;
  DType dtype = DType::float32;
  QuantFormat format = {};  // none: dtype

  /// Bytes of one position of one head, key and value.
  std::uint64_t position_bytes() const {
    if (!format.is_none()) return static_cast<std::uint64_t>(format.head_position_bytes(head_dim));
    return 2ULL * static_cast<std::uint64_t>(head_dim) * element_bytes(dtype);
  }
};

/// A band's heads per tier, in this order.
struct HeadSplit {
  std::int32_t gpu = 0;
  std::int32_t dram = 0;
  std::int32_t ssd = 0;
};

/// A sequence's heads on one tier.
struct CacheSegment {
  TierKind tier = TierKind::gpu;
  std::int32_t num_heads = 0;
  std::uint64_t home_offset = 0;   // in the (layer, slot)'s part of the tier
  std::uint64_t stage_offset = 0;  // in the staging image; meaningless on gpu
};

/// Bands of a slot, at most: gpu, dram, and dram that the host attends.
inline constexpr std::size_t most_bands = 3;

/// One (layer, slot): its parts of the tiers, and of the scratch file, in bytes.
struct CacheSplit {
  std::array<HeadSplit, most_bands> bands{};  // as many as the slot has
  std::uint64_t gpu_bytes = 0;
  std::uint64_t dram_bytes = 0;
  std::uint64_t ssd_bytes = 0;
  std::uint64_t file_bytes = 0;  // ssd_bytes, with every grain of positions in whole blocks
  std::uint64_t staged_bytes() const { return dram_bytes + ssd_bytes; }
};

struct CacheLayout {
  CacheShape shape;
  std::int32_t num_layers = 0;                // layers with a cache
  std::int32_t num_slots = 0;                 // micro-batches of all groups
  std::vector<std::vector<CacheBand>> bands;  // by slot
  std::vector<CacheSplit> splits;             // [layer * num_slots + slot]
  CacheSplit total;                           // of all, without bands
  std::uint64_t staged_bytes = 0;             // largest part of a (layer, slot) that is not on the gpu tier
  std::int64_t num_ssd_regions = 0;           // rows of (layer, slot)s with heads on ssd

  const CacheSplit& split(std::int32_t layer, std::int32_t slot) const {
    return splits[static_cast<std::size_t>(layer) * static_cast<std::size_t>(num_slots) +
                  static_cast<std::size_t>(slot)];
  }
  /// The segments of the sequence whose run of positions begins at `begin`, in the order of its heads.
  void append_segments(std::int32_t layer, std::int32_t slot, std::int32_t begin,
                       std::vector<CacheSegment>& segments) const;
  /// Whether any of that sequence's heads lies outside the gpu tier.
  bool is_staged(std::int32_t layer, std::int32_t slot, std::int32_t begin) const;
  /// From here on a slot's sequences are attended by the host; its number of positions where none are.
  std::int32_t first_host_position(std::int32_t slot) const;
  /// With the last block of every region, which stays in memory until it is full.
  void name_home(MemoryPieces& pieces) const;
};

/// `bands`: of every slot.
CacheLayout plan_cache(const CacheShape& shape, std::int32_t num_layers, std::vector<std::vector<CacheBand>> bands);

}  // namespace flexgen
