#include "batch/output_reader.hpp"

#include <algorithm>
#include <cmath>

#include "base/error.hpp"

namespace flexgen {
namespace {

constexpr const char* not_of_the_sweep = "tokens do not belong to the sweep that was awaited";

// Sampling gives a token of -1 where a logit is NaN. A score of minus infinity can neither be summed nor written.
bool are_numbers(std::span<const std::int32_t> tokens, std::span<const float> scores) {
  return std::ranges::none_of(tokens, [](std::int32_t token) { return token < 0; }) &&
         std::ranges::all_of(scores, [](float score) { return std::isfinite(score); });
}

}  // namespace

void OutputReader::take(const SweepWork& work, std::span<const SampledTokens> sampled, Block& block) const {
  FLEXGEN_CHECK(sampled.size() == work.micro_batches.size(), not_of_the_sweep);
  for (std::size_t k = 0; k < sampled.size(); ++k) {
    FLEXGEN_CHECK(sampled[k].sweep == work.number && sampled[k].micro_batch == static_cast<std::int32_t>(k),
                  not_of_the_sweep);
    take_micro_batch(work.micro_batches[k], sampled[k], block);
  }
}

void OutputReader::take_micro_batch(const MicroBatchWork& batch, const SampledTokens& sampled, Block& block) const {
  std::size_t at = 0;
  for (const RowWork& work : batch.rows) {
    const auto count = static_cast<std::size_t>(work.num_outputs());
    FLEXGEN_CHECK(at + count <= sampled.tokens.size() && (!work.wants_scores || at + count <= sampled.scores.size()),
                  not_of_the_sweep);
    Outputs outputs{std::span(sampled.tokens).subspan(at, count), {}};
    if (work.wants_scores)  // after the prompt's last token comes none of it
      outputs.scores = std::span(sampled.scores).subspan(at, count - (work.next_token < 0 ? 1 : 0));
    if (work.row != no_row) take_row(work, outputs, {batch.slot - block.first_slot(), work.cache_row}, block);
    at += count;
  }
  FLEXGEN_CHECK(at == sampled.tokens.size(), not_of_the_sweep);
}

void OutputReader::take_row(const RowWork& work, const Outputs& outputs, Place place, Block& block) const {
  Sequence& sequence = block.at(place);
  FLEXGEN_CHECK(sequence.id() == work.row, not_of_the_sweep);
  const auto finish = [&](FinishReason reason) {
    block.slot(place.micro_batch).release(place.cache_row);
    callbacks_.on_finished(work.row, reason);
  };
  if (!are_numbers(outputs.tokens, outputs.scores)) return finish(FinishReason::not_a_number);
  if (work.wants_scores) {
    sequence.take_scores(outputs.scores, outputs.tokens.first(outputs.scores.size()));
    if (sequence.num_prompt_left() == 0) callbacks_.on_scores(work.row, sequence.scores(), sequence.greedy());
  }
  if (work.wants_token) {
    const std::int32_t token = outputs.tokens.back();
    sequence.take_token(token);
    const bool is_told_to_stop = callbacks_.on_token(work.row, token);
    if (is_told_to_stop || stops_at(sequence, token)) return finish(FinishReason::stop);
  }
  if (!sequence.wants_more()) finish(FinishReason::length);
}

bool OutputReader::stops_at(const Sequence& sequence, std::int32_t token) const {
  return sequence.stops_at_eos() && std::ranges::find(eos_tokens_, token) != eos_tokens_.end();
}

}  // namespace flexgen
