// The sequences of one micro-batch in flight, each with a place and a run of the slot's cache for its life. Both are
// free again as soon as it leaves; who takes them, and when, is for admission to say. Sequences that begin alike have
// that beginning in a run that they share, within the same band.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "batch/cache_runs.hpp"
#include "batch/sequence.hpp"
#include "batch/slot_prefixes.hpp"

namespace flexgen {

class SlotRows {
 public:
  /// @param number      of the engine's cache slots: group * K + k
  /// @param num_places  B
  /// @param num_prefixes  common beginnings that it may hold at a time
  SlotRows(std::int32_t number, std::int32_t num_places, const CacheSpace& space, std::int32_t num_prefixes = 0);

  std::int32_t number() const { return number_; }
  std::int32_t num_sequences() const { return static_cast<std::int32_t>(by_begin_.size()); }
  std::int32_t num_free_places() const { return static_cast<std::int32_t>(free_places_.size()); }
  const CacheRuns& cache() const { return cache_; }
  std::int32_t num_held() const { return cache_.num_positions() - cache_.num_free(); }

  /// Whether there is a run for it, behind what it can share.
  bool has_room_for(const RowRequest& request) const { return find_way(request).has_value(); }
  /// Tokens of its prompt that are held already, or will be.
  std::int32_t num_shared(const RowRequest& request) const;
  /// Into the lowest free place and the run that fits best; both must be there.
  /// @param cuts  where its prompt is to be cut for others that will come, ascending: what of it is not held yet is
  ///              held in as many pieces, as far as there are places for them
  void admit(RowRequest request, std::span<const std::int32_t> cuts = {});
  /// Into that place and the run that begins there; both must be free.
  void admit(RowRequest request, std::int32_t cache_row, std::int32_t cache_begin);
  /// The sequence that lives there; there must be one.
  Sequence& at(std::int32_t cache_row);
  /// Frees place and run of a sequence that has ended.
  void release(std::int32_t cache_row);

  SlotPrefixes& prefixes() { return prefixes_; }
  const SlotPrefixes& prefixes() const { return prefixes_; }
  /// Whether all is there that the sequence shares, so that it can go on.
  bool can_go_on(std::int32_t cache_row) const { return prefixes_.are_there(sequence(cache_row).shared()); }
  /// Frees the run of a beginning that nobody uses, if there is one.
  bool drop_idle_prefix();

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
  // How a row comes to its positions: what it shares, and the band in which the rest must lie.
  struct Way {
    std::vector<SharedRun> shared;
    std::optional<CacheRun> band;  // none: any
  };
  std::optional<Way> find_way(const RowRequest& request) const;
  void place(RowRequest request, std::int32_t cache_row, CacheRun run, std::vector<SharedRun> shared = {});
  const Sequence& sequence(std::int32_t cache_row) const { return *sequences_[static_cast<std::size_t>(cache_row)]; }

  std::int32_t number_;
  CacheRuns cache_;
  SlotPrefixes prefixes_;
  std::vector<std::optional<Sequence>> sequences_;  // [B]; none: the place is free
  std::set<std::int32_t> free_places_;
  std::map<std::int32_t, std::int32_t> by_begin_;
  std::vector<std::int32_t> reading_;
};

}  // namespace flexgen
