// The common beginnings that one slot's cache holds, each in a run of its own, and who uses them. A beginning may go on
// from another: a tree. One that nobody uses is kept until its room is wanted.
//
// What a sweep brings counts as there from the next sweep on (begin_sweep): nobody attends what is being read.
// Refers to nothing; knows runs of the cache by number, whose taking and giving back is its caller's. Single-threaded.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "batch/cache_runs.hpp"
#include "schedule/work_list.hpp"

namespace flexgen {

class SlotPrefixes {
 public:
  using Tokens = std::span<const std::int32_t>;

  struct Prefix {
    std::vector<std::int32_t> tokens;  // from position 0 on, those before its own included
    std::vector<SharedRun> before;     // what it goes on from
    CacheRun run;                      // of its own positions
    std::int32_t begin = 0;            // the first of them
    std::int32_t num_read = 0;         // of them, by the sweeps so far
    std::int32_t num_there = 0;        // the same without the sweep that is being made
    std::int32_t num_users = 0;        // rows and beginnings
    std::int64_t last_use = 0;

    std::int32_t end() const { return begin + run.length; }
  };

  /// @param first_place  of the slot's places, the one of the first beginning; at most `num_places` of them
  SlotPrefixes(std::int32_t first_place, std::int32_t num_places);

  bool any() const { return num_held_ > 0; }
  bool has_free_place() const { return num_held_ < static_cast<std::int32_t>(prefixes_.size()); }
  /// Those that there are, the last used first, longer ones before those that they go on from.
  std::vector<const Prefix*> by_use() const;

  /// The longest way through beginnings within `band` that go with a prompt, no further than `most` tokens.
  std::vector<SharedRun> longest_match(Tokens prompt, std::int32_t most, CacheRun band) const;
  /// Holds what `tokens` add to `before`, whose users it joins; there must be a free place, and nobody uses it yet.
  SharedRun add(std::vector<SharedRun> before, Tokens tokens, CacheRun run);
  void join(const SharedRun& shared);
  void leave(const SharedRun& shared);
  /// Lets go of the beginning that nobody has used for longest: its run; none where all are in use.
  std::optional<CacheRun> drop_idle();

  void begin_sweep();
  /// Whether rows can attend all of these.
  bool are_there(std::span<const SharedRun> shared) const;
  /// Tokens that are yet to be read.
  std::int64_t num_unread() const;
  /// What the sweep brings of them, at most `num_tokens`. That counts as read.
  std::vector<RowWork> next_work(std::int32_t num_tokens);

 private:
  Prefix& at(const SharedRun& shared);
  const Prefix& at(const SharedRun& shared) const;
  std::int32_t place_of(std::size_t index) const { return first_place_ + static_cast<std::int32_t>(index); }

  std::int32_t first_place_;
  std::vector<std::optional<Prefix>> prefixes_;  // by place
  std::int32_t num_held_ = 0;
  std::int64_t num_uses_ = 0;
};

}  // namespace flexgen
