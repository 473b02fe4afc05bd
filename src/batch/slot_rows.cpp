#include "batch/slot_rows.hpp"

#include <algorithm>
#include <utility>

#include "base/error.hpp"

namespace flexgen {

SlotRows::SlotRows(std::int32_t number, std::int32_t num_places, const CacheSpace& space)
    : number_(number), cache_(space), sequences_(static_cast<std::size_t>(num_places)) {
  for (std::int32_t b = 0; b < num_places; ++b) free_places_.insert(free_places_.end(), b);
}

void SlotRows::admit(RowRequest request) {
  FLEXGEN_CHECK(!free_places_.empty(), "a sequence was admitted where no place is free");
  const std::optional<CacheRun> run = cache_.take(positions_wanted(request));
  FLEXGEN_CHECK(run.has_value(), "a sequence was admitted where no run of the cache is as long");
  place(std::move(request), *free_places_.begin(), *run);
}

void SlotRows::admit(RowRequest request, std::int32_t cache_row, std::int32_t cache_begin) {
  FLEXGEN_CHECK(free_places_.contains(cache_row), "a place of a block has two sequences");
  const CacheRun run{cache_begin, whole_grains(positions_wanted(request))};
  cache_.take(run);
  place(std::move(request), cache_row, run);
}

void SlotRows::place(RowRequest request, std::int32_t cache_row, CacheRun run) {
  sequences_[static_cast<std::size_t>(cache_row)].emplace(std::move(request), cache_row, run);
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
  by_begin_.erase(run.begin);
  std::erase(reading_, cache_row);
  free_places_.insert(cache_row);
  sequences_[static_cast<std::size_t>(cache_row)].reset();
}

void SlotRows::drop_read() {
  std::erase_if(reading_, [this](std::int32_t cache_row) { return sequence(cache_row).num_prompt_left() == 0; });
}

std::int64_t SlotRows::tokens_wanted() const {
  std::int64_t total = num_sequences() - std::ssize(reading_);
  for (const std::int32_t cache_row : reading_) total += std::min(sequence(cache_row).num_prompt_left(), call_tokens);
  return total;
}

bool SlotRows::wants_more() const {
  return std::ranges::any_of(by_begin_, [this](const auto& at) { return sequence(at.second).wants_more(); });
}

}  // namespace flexgen
