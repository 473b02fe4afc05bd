#include "batch/cache_runs.hpp"

#include <algorithm>
#include <functional>
#include <iterator>

#include "base/error.hpp"

namespace flexgen {

CacheRuns::CacheRuns(const CacheSpace& space) {
  for (const std::int32_t length : space.bands) {
    FLEXGEN_CHECK(length > 0 && length % cache_grain == 0, "a band of the cache is not of whole grains");
    add_free({num_positions_, length});
    num_positions_ += length;
    band_ends_.push_back(num_positions_);
  }
}

std::optional<CacheRun> CacheRuns::take(std::int32_t positions) {
  std::vector<CacheRun> emptiest_first = bands();
  std::ranges::stable_sort(emptiest_first, std::greater{},
                           [this](const CacheRun& band) { return static_cast<double>(num_free(band)) / band.length; });
  for (const CacheRun& band : emptiest_first)
    if (const std::optional<CacheRun> run = take(positions, band)) return run;
  return std::nullopt;
}

std::optional<CacheRun> CacheRuns::take(std::int32_t positions, CacheRun band) {
  const std::int32_t length = whole_grains(positions);
  for (auto at = by_length_.lower_bound({length, 0}); at != by_length_.end(); ++at) {
    if (at->second < band.begin || at->second >= band.end()) continue;
    const CacheRun run{at->second, length};
    take(run);
    return run;
  }
  return std::nullopt;
}

void CacheRuns::take(CacheRun run) {
  const auto after = by_begin_.upper_bound(run.begin);
  FLEXGEN_CHECK(run.length > 0 && after != by_begin_.begin(), "a run of the cache was taken that is not free");
  const CacheRun from{std::prev(after)->first, std::prev(after)->second};
  FLEXGEN_CHECK(run.end() <= from.end(), "a run of the cache was taken that is not free");
  remove_free(from);
  if (from.begin < run.begin) add_free({from.begin, run.begin - from.begin});
  if (run.end() < from.end()) add_free({run.end(), from.end() - run.end()});
}

void CacheRuns::give_back(CacheRun run) {
  const auto after = by_begin_.lower_bound(run.begin);
  FLEXGEN_CHECK(run.length > 0 && run.begin >= 0 && run.end() <= num_positions_ &&
                    (after == by_begin_.end() || run.end() <= after->first) &&
                    (after == by_begin_.begin() || std::prev(after)->first + std::prev(after)->second <= run.begin),
                "a run of the cache was given back that was free");
  CacheRun whole = run;
  if (after != by_begin_.end() && after->first == run.end() && !is_border(run.end())) whole.length += after->second;
  if (after != by_begin_.begin()) {
    const CacheRun before{std::prev(after)->first, std::prev(after)->second};
    if (before.end() == run.begin && !is_border(run.begin)) whole = {before.begin, before.length + whole.length};
  }
  if (whole.end() > run.end()) remove_free({run.end(), whole.end() - run.end()});
  if (whole.begin < run.begin) remove_free({whole.begin, run.begin - whole.begin});
  add_free(whole);
}

void CacheRuns::add_free(CacheRun run) {
  by_begin_.emplace(run.begin, run.length);
  by_length_.emplace(run.length, run.begin);
  num_free_ += run.length;
}

void CacheRuns::remove_free(CacheRun run) {
  by_begin_.erase(run.begin);
  by_length_.erase({run.length, run.begin});
  num_free_ -= run.length;
}

std::int32_t CacheRuns::num_free(CacheRun band) const {
  std::int32_t total = 0;
  for (auto at = by_begin_.lower_bound(band.begin); at != by_begin_.end() && at->first < band.end(); ++at)
    total += at->second;
  return total;
}

std::int32_t CacheRuns::longest_free(CacheRun band) const {
  const auto at = std::find_if(by_length_.rbegin(), by_length_.rend(), [band](const auto& free) {
    return free.second >= band.begin && free.second < band.end();
  });
  return at == by_length_.rend() ? 0 : at->first;
}

std::vector<CacheRun> CacheRuns::bands() const {
  std::vector<CacheRun> bands;
  std::int32_t begin = 0;
  for (const std::int32_t end : band_ends_) {
    bands.push_back({begin, end - begin});
    begin = end;
  }
  return bands;
}

CacheRun CacheRuns::band_of(std::int32_t position) const {
  const auto end = std::ranges::upper_bound(band_ends_, position);
  FLEXGEN_CHECK(end != band_ends_.end(), "a position lies outside its slot");
  const std::int32_t begin = end == band_ends_.begin() ? 0 : *std::prev(end);
  return {begin, *end - begin};
}

bool CacheRuns::is_border(std::int32_t position) const { return std::ranges::binary_search(band_ends_, position); }

}  // namespace flexgen
