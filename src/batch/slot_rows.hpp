// The sequences of one micro-batch in flight, each with a place and a run of the slot's cache for its life. Both are
// free again as soon as it leaves; who takes them, and when, is for admission to say.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "batch/cache_runs.hpp"
#include "batch/sequence.hpp"

namespace flexgen {

class SlotRows {
 public:
  /// @param number      of the engine's cache slots: group * K + k
  /// @param num_places  B
  SlotRows(std::int32_t number, std::int32_t num_places, const CacheSpace& space);

  std::int32_t number() const { return number_; }
  std::int32_t num_sequences() const { return static_cast<std::int32_t>(by_begin_.size()); }
  std::int32_t num_free_places() const { return static_cast<std::int32_t>(free_places_.size()); }
  const CacheRuns& cache() const { return cache_; }
  std::int32_t num_held() const { return cache_.num_positions() - cache_.num_free(); }

  /// Into the lowest free place and the run that fits best; both must be there.
  void admit(RowRequest request);
  /// Into that place and the run that begins there; both must be free.
  void admit(RowRequest request, std::int32_t cache_row, std::int32_t cache_begin);
  /// The sequence that lives there; there must be one.
  Sequence& at(std::int32_t cache_row);
  /// Frees place and run of a sequence that has ended.
  void release(std::int32_t cache_row);

  /// The cache rows of all sequences, by the begin of their runs.
  const std::map<std::int32_t, std::int32_t>& by_begin() const { return by_begin_; }
  /// The cache rows of those whose prompt is not read whole, the longest there first.
  const std::vector<std::int32_t>& reading() const { return reading_; }
  /// Lets go of those in `reading` whose prompt has been brought whole.
  void drop_read();

  /// Tokens that the sequences can bring in the next sweep.
  std::int64_t tokens_wanted() const;
  /// Whether any of them goes on after the sweep under way, unless it stops before.
  bool wants_more() const;

 private:
  void place(RowRequest request, std::int32_t cache_row, CacheRun run);
  const Sequence& sequence(std::int32_t cache_row) const { return *sequences_[static_cast<std::size_t>(cache_row)]; }

  std::int32_t number_;
  CacheRuns cache_;
  std::vector<std::optional<Sequence>> sequences_;  // [B]; none: the place is free
  std::set<std::int32_t> free_places_;
  std::map<std::int32_t, std::int32_t> by_begin_;
  std::vector<std::int32_t> reading_;
};

}  // namespace flexgen
