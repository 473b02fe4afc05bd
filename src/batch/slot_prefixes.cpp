#include "batch/slot_prefixes.hpp"

#include <algorithm>
#include <limits>
#include <tuple>
#include <utility>

#include "base/error.hpp"
#include "batch/prompt_chunk.hpp"

namespace flexgen {
namespace {

// Tokens from `begin` on that both have, in whole grains.
std::int32_t common_length(SlotPrefixes::Tokens one, SlotPrefixes::Tokens other, std::int32_t begin) {
  const auto from = static_cast<std::size_t>(begin);
  if (one.size() <= from || other.size() <= from) return 0;
  const auto differs = std::ranges::mismatch(one.subspan(from), other.subspan(from));
  const auto length = static_cast<std::int32_t>(differs.in1 - (one.begin() + begin));
  return length / prefix_grain * prefix_grain;
}

}  // namespace

SlotPrefixes::SlotPrefixes(std::int32_t first_place, std::int32_t num_places)
    : first_place_(first_place), prefixes_(static_cast<std::size_t>(num_places)) {}

SlotPrefixes::Prefix& SlotPrefixes::at(const SharedRun& shared) {
  return *prefixes_[static_cast<std::size_t>(shared.cache_row - first_place_)];
}
const SlotPrefixes::Prefix& SlotPrefixes::at(const SharedRun& shared) const {
  return *prefixes_[static_cast<std::size_t>(shared.cache_row - first_place_)];
}

std::vector<const SlotPrefixes::Prefix*> SlotPrefixes::by_use() const {
  std::vector<const Prefix*> held;
  for (const std::optional<Prefix>& prefix : prefixes_)
    if (prefix) held.push_back(&*prefix);
  std::ranges::stable_sort(held, [](const Prefix* one, const Prefix* other) {
    return std::tuple(one->last_use, one->end()) > std::tuple(other->last_use, other->end());
  });
  return held;
}

std::vector<SharedRun> SlotPrefixes::longest_match(Tokens prompt, std::int32_t most, CacheRun band) const {
  prompt = prompt.first(static_cast<std::size_t>(most));
  std::vector<SharedRun> way;
  while (true) {
    const std::int32_t begin = total_length(way);
    SharedRun best;
    for (std::size_t i = 0; i < prefixes_.size(); ++i) {
      const std::optional<Prefix>& prefix = prefixes_[i];
      if (!prefix || prefix->before != way || prefix->run.begin < band.begin || prefix->run.end() > band.end())
        continue;
      const std::int32_t length = common_length(prefix->tokens, prompt, begin);
      if (length > best.length) best = {place_of(i), prefix->run.begin, length};
    }
    if (best.length == 0) return way;
    way.push_back(best);
  }
}

SharedRun SlotPrefixes::add(std::vector<SharedRun> before, Tokens tokens, CacheRun run) {
  const auto free = std::ranges::find_if(prefixes_, [](const auto& prefix) { return !prefix.has_value(); });
  FLEXGEN_CHECK(free != prefixes_.end(), "a slot holds more beginnings than it has places for");
  for (const SharedRun& shared : before) join(shared);
  Prefix& prefix = free->emplace();
  prefix.tokens.assign(tokens.begin(), tokens.end());
  prefix.begin = total_length(before);
  prefix.before = std::move(before);
  prefix.run = run;
  FLEXGEN_CHECK(prefix.end() == static_cast<std::int32_t>(tokens.size()), "a beginning's run is not as long as it is");
  ++num_held_;
  return {place_of(static_cast<std::size_t>(free - prefixes_.begin())), run.begin, run.length};
}

void SlotPrefixes::join(const SharedRun& shared) {
  ++at(shared).num_users;
  at(shared).last_use = ++num_uses_;
}

void SlotPrefixes::leave(const SharedRun& shared) {
  FLEXGEN_CHECK(at(shared).num_users > 0, "a beginning was left by more than used it");
  --at(shared).num_users;
}

std::optional<CacheRun> SlotPrefixes::drop_idle() {
  const auto idle_since = [](const std::optional<Prefix>& prefix) {
    return prefix && prefix->num_users == 0 ? prefix->last_use : std::numeric_limits<std::int64_t>::max();
  };
  const auto longest_idle = std::ranges::min_element(prefixes_, {}, idle_since);
  if (longest_idle == prefixes_.end() || !*longest_idle || (*longest_idle)->num_users > 0) return std::nullopt;
  for (const SharedRun& shared : (*longest_idle)->before) leave(shared);
  const CacheRun run = (*longest_idle)->run;
  longest_idle->reset();
  --num_held_;
  return run;
}

void SlotPrefixes::begin_sweep() {
  for (std::optional<Prefix>& prefix : prefixes_)
    if (prefix) prefix->num_there = prefix->num_read;
}

bool SlotPrefixes::are_there(std::span<const SharedRun> shared) const {
  return std::ranges::all_of(shared, [this](const SharedRun& run) { return at(run).num_there >= run.length; });
}

std::int64_t SlotPrefixes::num_unread() const {
  std::int64_t total = 0;
  for (const std::optional<Prefix>& prefix : prefixes_)
    if (prefix) total += prefix->run.length - prefix->num_read;
  return total;
}

std::vector<RowWork> SlotPrefixes::next_work(std::int32_t num_tokens) {
  std::vector<RowWork> works;
  for (std::size_t i = 0; i < prefixes_.size() && num_tokens > 0; ++i) {
    std::optional<Prefix>& prefix = prefixes_[i];
    if (!prefix || prefix->num_read == prefix->run.length || !are_there(prefix->before)) continue;
    const std::int32_t left = prefix->run.length - prefix->num_read;
    const std::int32_t count = works.empty() ? least_prompt_chunk(left, num_tokens) : prompt_chunk(left, num_tokens);
    if (count == 0) break;
    RowWork& work = works.emplace_back();
    work.row = no_row;
    work.cache_row = place_of(i);
    work.cache_begin = prefix->run.begin;
    work.start = prefix->begin + prefix->num_read;
    work.wants_token = false;
    work.reads_prompt = true;
    work.shared = prefix->before;
    const auto first = prefix->tokens.begin() + work.start;
    work.tokens.assign(first, first + count);
    prefix->num_read += count;
    num_tokens -= count;
  }
  return works;
}

}  // namespace flexgen
