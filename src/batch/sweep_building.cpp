#include "batch/sweep_building.hpp"

#include <algorithm>
#include <iterator>
#include <span>
#include <utility>

#include "base/error.hpp"
#include "batch/prompt_chunk.hpp"

namespace flexgen {
namespace {

std::vector<RowWork> decode_work(SlotRows& slot) {
  std::vector<RowWork> rows;
  rows.reserve(slot.by_begin().size());
  for (const auto& [begin, cache_row] : slot.by_begin()) {
    Sequence& sequence = slot.at(cache_row);
    if (sequence.num_prompt_left() == 0) rows.push_back(sequence.next_work(1));
  }
  if (slot.prefixes().any()) std::ranges::sort(rows, lies_before);
  return rows;
}

std::vector<RowWork> prompt_work(SlotRows& slot, std::int32_t num_tokens, bool is_all) {
  std::vector<RowWork> rows = slot.prefixes().next_work(num_tokens);
  for (const RowWork& row : rows) num_tokens -= row.count();
  for (const std::int32_t cache_row : slot.reading()) {
    if (num_tokens == 0) break;
    if (!slot.can_go_on(cache_row)) continue;
    Sequence& sequence = slot.at(cache_row);
    const std::int32_t left = sequence.num_prompt_left();
    const std::int32_t count =
        is_all && rows.empty() ? least_prompt_chunk(left, num_tokens) : prompt_chunk(left, num_tokens);
    if (count == 0) break;
    num_tokens -= rows.emplace_back(sequence.next_work(count)).count();
  }
  slot.drop_read();
  return rows;
}

// Most rows have none: the list stays empty.
std::vector<RowChoice> choices_of(SlotRows& slot, std::span<const RowWork> rows) {
  std::vector<RowChoice> choices;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    if (rows[r].num_outputs() == 0) continue;  // nobody's rows are of these
    const TokenChooser* const chooser = slot.at(rows[r].cache_row).chooser();
    if (chooser) choices.push_back(chooser->next(static_cast<std::int32_t>(r)));
  }
  return choices;
}

}  // namespace

std::vector<MicroBatchWork> build_micro_batches(Block& block, std::int32_t num_tokens) {
  std::vector<MicroBatchWork> micro_batches;
  for (SlotRows& slot : block.slots()) {
    if (slot.num_sequences() == 0) continue;
    slot.prefixes().begin_sweep();
    std::vector<RowWork> decoding = decode_work(slot);  // before a prompt that is read now would count as one of them
    const std::int32_t left = num_tokens - static_cast<std::int32_t>(decoding.size());
    FLEXGEN_CHECK(left >= 0, "the sequences of a micro-batch have more tokens than it may bring");
    std::vector<RowWork> rows = prompt_work(slot, left, decoding.empty());
    rows.insert(rows.end(), std::make_move_iterator(decoding.begin()), std::make_move_iterator(decoding.end()));
    std::vector<RowChoice> choices = choices_of(slot, rows);
    micro_batches.push_back({slot.number(), std::move(rows), std::move(choices)});
  }
  return micro_batches;
}

}  // namespace flexgen
