// The positions of one slot's cache as free runs: a sequence takes a run of whole grains within one band for its life,
// and gives it back. Bands fill and drain alike, as each of them is another resource's work; within a band best fit, so
// that long runs are left for long sequences, and the lowest of those that fit alike.
//
// Calls take O(log n) of n free runs, unless they say more. Single-threaded.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "spec/block_limits.hpp"

namespace flexgen {

/// A part of a slot's positions.
struct CacheRun {
  std::int32_t begin = 0;
  std::int32_t length = 0;

  std::int32_t end() const { return begin + length; }
  bool operator==(const CacheRun&) const = default;
};

class CacheRuns {
 public:
  explicit CacheRuns(const CacheSpace& space);

  /// A run of `positions`, whole grains of them, in the band of which the largest part is free; none where no free run
  /// is as long. O(n) at worst.
  std::optional<CacheRun> take(std::int32_t positions);
  /// The same within a band. O(n) at worst.
  std::optional<CacheRun> take(std::int32_t positions, CacheRun band);
  /// That very run, which must be free.
  void take(CacheRun run);
  /// What was taken; it becomes one with its free neighbours in its band.
  void give_back(CacheRun run);

  std::int32_t num_positions() const { return num_positions_; }
  std::int32_t num_free() const { return num_free_; }
  /// The same within a band. O(n) at worst.
  std::int32_t num_free(CacheRun band) const;
  /// Of the longest run that could be taken.
  std::int32_t longest_free() const { return by_length_.empty() ? 0 : by_length_.rbegin()->first; }
  /// The same within a band. O(n) at worst.
  std::int32_t longest_free(CacheRun band) const;
  std::vector<CacheRun> bands() const;
  /// The band of a position.
  CacheRun band_of(std::int32_t position) const;

 private:
  void add_free(CacheRun run);
  void remove_free(CacheRun run);
  bool is_border(std::int32_t position) const;

  std::vector<std::int32_t> band_ends_;                        // ascending
  std::map<std::int32_t, std::int32_t> by_begin_;              // free runs: begin -> length
  std::set<std::pair<std::int32_t, std::int32_t>> by_length_;  // the same: (length, begin)
  std::int32_t num_positions_ = 0;
  std::int32_t num_free_ = 0;
};

}  // namespace flexgen
