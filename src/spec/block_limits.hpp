// What the rows in flight may take: positions of the cache, and tokens of a sweep. Plain data, the same on all ranks.
#pragma once

#include <cstdint>
#include <numeric>
#include <vector>

namespace flexgen {

/// Sequences take whole grains of a cache's positions.
inline constexpr std::int32_t cache_grain = 8;
/// Positions that a sequence of so many holds: whole grains, at least one.
constexpr std::int32_t whole_grains(std::int32_t positions) {
  return (positions < 1 ? 1 : (positions + cache_grain - 1) / cache_grain) * cache_grain;
}

/// Rows share whole runs of so many positions: the blocks in which attention sums up, so that the order of its sums,
/// and with it every bit, is that of a row that shares nothing.
inline constexpr std::int32_t prefix_grain = 64;
static_assert(prefix_grain % cache_grain == 0);

/// Tokens that one call of a layer may have, and so a row in a sweep.
inline constexpr std::int32_t call_tokens = 4096;

/// The positions of one micro-batch's cache, numbered through its bands. A sequence takes a run of them, as many as it
/// can need, within one band: bands lie on different tiers, or are attended in different places.
struct CacheSpace {
  std::vector<std::int32_t> bands;  // positions of each, multiples of cache_grain, none 0

  std::int32_t num_positions() const { return std::accumulate(bands.begin(), bands.end(), 0); }
  bool operator==(const CacheSpace&) const = default;
};

struct BlockLimits {
  std::vector<CacheSpace> slots;  // by cache slot: group * K + k. One band of each holds the job's longest row
  std::int32_t num_tokens = 0;    // that a micro-batch may bring in a sweep, at least B

  bool operator==(const BlockLimits&) const = default;
};

}  // namespace flexgen
