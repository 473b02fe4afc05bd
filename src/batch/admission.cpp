#include "batch/admission.hpp"

#include <algorithm>
#include <iterator>
#include <limits>
#include <numeric>
#include <utility>

#include "base/error.hpp"

namespace flexgen {
namespace {

constexpr std::int64_t most_rows_ahead = 1024;
// A prompt is not begun with fewer tokens than this, unless it has no more: it would only lie in the cache.
constexpr std::int64_t least_first_chunk = 64;

std::int64_t share(std::int64_t rows, std::int64_t groups) { return (rows + groups - 1) / groups; }

// Positions that a row may have which leaves the slot's other free places as many as rows take on average.
std::int32_t room_for_one(const SlotRows& slot, double mean_positions) {
  const double free = slot.cache().num_free();
  const double places = slot.num_free_places();
  return static_cast<std::int32_t>(std::max(free / places, free - (places - 1) * std::max(0.0, mean_positions)));
}

}  // namespace

Admission::Admission(const BlockShape& shape, const BlockLimits& limits)
    : shape_(shape), num_tokens_(limits.num_tokens) {}

std::size_t Admission::window() const {
  if (shape_.rule == BlockRule::fixed) return 1;
  return static_cast<std::size_t>(
      std::clamp<std::int64_t>(4 * shape_.block_rows() * shape_.num_groups, 1, most_rows_ahead));
}

void Admission::admit(Block& block, WaitingRows& rows, std::span<const std::int64_t> in_flight) {
  if (shape_.rule == BlockRule::fixed) return fill(block, rows, std::ranges::count(in_flight, 0));
  const std::optional<std::int64_t> waiting = rows.count();
  refill(block, rows,
         waiting ? fair_share(block.num_sequences(), *waiting, in_flight) : std::numeric_limits<std::int64_t>::max());
}

// Of the rows that wait, how many a group that has `own` may take: not more than make all groups even, nor of those
// that the others lack to that.
std::int64_t Admission::fair_share(std::int64_t own, std::int64_t waiting, std::span<const std::int64_t> in_flight) {
  const std::int64_t all = std::accumulate(in_flight.begin(), in_flight.end(), waiting);
  const std::int64_t groups = std::ssize(in_flight);
  std::int64_t lacked = -std::max<std::int64_t>(0, all / groups - own);  // by the others
  for (const std::int64_t other : in_flight) lacked += std::max<std::int64_t>(0, all / groups - other);
  return std::min(share(all, groups) - own, waiting - lacked);
}

void Admission::fill(Block& block, WaitingRows& rows, std::int64_t num_idle) const {
  if (!block.is_empty()) return;
  std::int64_t room = shape_.block_rows();
  if (const std::optional<std::int64_t> waiting = rows.count()) room = std::min(room, share(*waiting, num_idle));
  for (SlotRows& slot : block.slots()) {
    const std::int32_t row_positions = slot.cache().num_positions() / shape_.micro_batch_size;
    for (std::int32_t b = 0; b < shape_.micro_batch_size; ++b, --room) {
      if (room <= 0 || !rows.any()) return;
      slot.admit(rows.take(rows.oldest()), b, b * row_positions);
    }
  }
}

// Rows that are few wait for the tokens of a later sweep rather than for a micro-batch of their own: every one costs a
// call a layer, as long as its last row lives.
void Admission::refill(Block& block, WaitingRows& rows, std::int64_t num_wanted) {
  for (SlotRows& slot : block.slots()) {
    if (num_wanted <= 0) return;
    rows.fill();
    if (!rows.any()) return;
    reserve(block, rows);
    if (refill(slot, rows, num_wanted) == Lack::tokens) num_wanted -= slot.num_free_places();
  }
}

// Says what it was that no more rows came for.
Admission::Lack Admission::refill(SlotRows& slot, WaitingRows& rows, std::int64_t& num_wanted) {
  std::int64_t tokens = num_tokens_ - slot.tokens_wanted();
  // Of a budget that has no more to spare beside a full micro-batch, any token will do.
  const std::int64_t least = std::min<std::int64_t>(least_first_chunk, num_tokens_ - shape_.micro_batch_size + 1);
  while (num_wanted > 0 && rows.any()) {
    if (slot.num_free_places() == 0) return Lack::room;
    const std::optional<Row> row = choose(slot, rows);
    if (!row && slot.drop_idle_prefix()) continue;
    if (!row) return Lack::room;
    const std::int64_t prompt = std::ssize(rows.at(*row).prompt) - slot.num_shared(rows.at(*row));
    if (tokens < std::min(prompt, least)) return Lack::tokens;
    tokens -= std::min<std::int64_t>(prompt, call_tokens);
    if (row == rows.oldest()) reserved_slot_.reset();
    const std::vector<std::int32_t> cuts = rows.cuts(*row);
    slot.admit(rows.take(*row), cuts);
    --num_wanted;
    rows.fill();
  }
  return Lack::rows;
}

// None: none of the rows has room in the slot, or it is reserved.
std::optional<Admission::Row> Admission::choose(const SlotRows& slot, const WaitingRows& rows) const {
  const std::int32_t longest = slot.cache().longest_free();
  if (is_overdue(rows) && slot.has_room_for(rows.at(rows.oldest()))) return rows.oldest();
  if (reserved_slot_ == slot.number()) return std::nullopt;
  if (const std::optional<Row> row = choose_sharing(slot, rows)) return row;
  if (rows.positions(rows.shortest()) > longest) return std::nullopt;
  if (rows.are_last()) return rows.longest_lived_within(longest);
  const std::optional<Row> best = rows.longest_within(std::min(longest, room_for_one(slot, rows.mean_positions())));
  return best ? best : rows.shortest();
}

// As `choose`, of the rows that begin with what the slot holds: they need positions for the rest alone.
std::optional<Admission::Row> Admission::choose_sharing(const SlotRows& slot, const WaitingRows& rows) {
  if (!slot.prefixes().any()) return std::nullopt;
  for (const SlotPrefixes::Prefix* prefix : slot.prefixes().by_use()) {
    const PrefixTree::Ordered* sharing = rows.rows_that_begin_with(prefix->tokens);
    if (sharing == nullptr) continue;
    const std::int32_t held = prefix->end();
    const std::int32_t most = held + slot.cache().longest_free(slot.cache().band_of(prefix->run.begin));
    if (sharing->begin()->first > most) continue;
    if (rows.are_last()) return rows.longest_lived_of(*sharing, most);
    const std::int32_t room = held + room_for_one(slot, rows.mean_positions() - held);
    const auto longer = sharing->upper_bound({std::min(most, room), std::numeric_limits<Row>::max()});
    return longer == sharing->begin() ? longer->second : std::prev(longer)->second;
  }
  return std::nullopt;
}

// For a row that must wait no more: the slot that has most room already, unless one is reserved.
void Admission::reserve(Block& block, const WaitingRows& rows) {
  if (reserved_slot_ || !is_overdue(rows)) return;
  reserved_slot_ = std::ranges::max_element(block.slots(), {}, [](const SlotRows& slot) {
                     return slot.cache().num_free();
                   })->number();
}

bool Admission::is_overdue(const WaitingRows& rows) const {
  return rows.times_oldest_was_passed() > static_cast<std::int64_t>(window());
}

}  // namespace flexgen
