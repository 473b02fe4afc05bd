#include "batch/slot_rows.hpp"

#include <algorithm>
#include <utility>

#include "base/error.hpp"
#include "batch/prefix_tree.hpp"

namespace flexgen {

SlotRows::SlotRows(std::int32_t number, std::int32_t num_places, const CacheSpace& space, std::int32_t num_prefixes)
    : number_(number),
      cache_(space),
      prefixes_(num_places, num_prefixes),
      sequences_(static_cast<std::size_t>(num_places)) {
  for (std::int32_t b = 0; b < num_places; ++b) free_places_.insert(free_places_.end(), b);
}

// As much as it can share of what lies in one band that has room for the rest; else the room is sought anywhere.
std::optional<SlotRows::Way> SlotRows::find_way(const RowRequest& request) const {
  const std::int32_t positions = whole_grains(positions_wanted(request));
  std::optional<Way> best;
  if (prefixes_.any() && !request.score_prompt) {
    const std::int32_t most = shareable_tokens(request.prompt.size());
    for (const CacheRun& band : cache_.bands()) {
      std::vector<SharedRun> shared = prefixes_.longest_match(request.prompt, most, band);
      const std::int32_t length = total_length(shared);
      if (length > (best ? total_length(best->shared) : 0) && cache_.longest_free(band) >= positions - length)
        best = Way{std::move(shared), band};
    }
  }
  if (!best && cache_.longest_free() >= positions) best.emplace();
  return best;
}

std::int32_t SlotRows::num_shared(const RowRequest& request) const {
  const std::optional<Way> way = find_way(request);
  return way ? total_length(way->shared) : 0;
}

void SlotRows::admit(RowRequest request, std::span<const std::int32_t> cuts) {
  FLEXGEN_CHECK(!free_places_.empty(), "a sequence was admitted where no place is free");
  std::optional<Way> way = find_way(request);
  FLEXGEN_CHECK(way.has_value(), "a sequence was admitted where no run of the cache is as long");
  std::int32_t length = total_length(way->shared);
  const std::int32_t positions = positions_wanted(request) - length;
  CacheRun run = way->band ? *cache_.take(positions, *way->band) : *cache_.take(positions);
  for (const SharedRun& shared : way->shared) prefixes_.join(shared);
  for (const std::int32_t cut : cuts) {
    if (cut <= length) continue;
    if (!prefixes_.has_free_place() && !drop_idle_prefix()) break;
    const CacheRun piece{run.begin, cut - length};
    const auto tokens = std::span(request.prompt).first(static_cast<std::size_t>(cut));
    way->shared.push_back(prefixes_.add(way->shared, tokens, piece));
    prefixes_.join(way->shared.back());
    run = {piece.end(), run.length - piece.length};
    length = cut;
  }
  place(std::move(request), *free_places_.begin(), run, std::move(way->shared));
}

void SlotRows::admit(RowRequest request, std::int32_t cache_row, std::int32_t cache_begin) {
  FLEXGEN_CHECK(free_places_.contains(cache_row), "a place of a block has two sequences");
  const CacheRun run{cache_begin, whole_grains(positions_wanted(request))};
  cache_.take(run);
  place(std::move(request), cache_row, run);
}

void SlotRows::place(RowRequest request, std::int32_t cache_row, CacheRun run, std::vector<SharedRun> shared) {
  sequences_[static_cast<std::size_t>(cache_row)].emplace(std::move(request), cache_row, run, std::move(shared));
  free_places_.erase(cache_row);
  by_begin_.emplace(run.begin, cache_row);
  reading_.push_back(cache_row);
}

Sequence& SlotRows::at(std::int32_t cache_row) {
  std::optional<Sequence>& sequence = sequences_.at(static_cast<std::size_t>(cache_row));
  FLEXGEN_CHECK(sequence.has_value(), "a place of a block has no sequence");
  return *sequence;
}

void SlotRows::release(std::int32_t cache_row) {
  const CacheRun run = at(cache_row).run();
  cache_.give_back(run);
  for (const SharedRun& shared : at(cache_row).shared()) prefixes_.leave(shared);
  by_begin_.erase(run.begin);
  std::erase(reading_, cache_row);
  free_places_.insert(cache_row);
  sequences_[static_cast<std::size_t>(cache_row)].reset();
}

bool SlotRows::drop_idle_prefix() {
  const std::optional<CacheRun> run = prefixes_.drop_idle();
  if (run) cache_.give_back(*run);
  return run.has_value();
}

void SlotRows::drop_read() {
  std::erase_if(reading_, [this](std::int32_t cache_row) { return sequence(cache_row).num_prompt_left() == 0; });
}

std::int64_t SlotRows::tokens_wanted() const {
  std::int64_t total = num_sequences() - std::ssize(reading_) + prefixes_.num_unread();
  for (const std::int32_t cache_row : reading_) total += std::min(sequence(cache_row).num_prompt_left(), call_tokens);
  return total;
}

bool SlotRows::wants_more() const {
  return std::ranges::any_of(by_begin_, [this](const auto& at) { return sequence(at.second).wants_more(); });
}

}  // namespace flexgen
