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

TokenScores scores_of(const SampledTokens& sampled, std::size_t first, std::size_t count) {
  FLEXGEN_CHECK(first + count <= sampled.scores.size(), not_of_the_sweep);
  const auto max_top = static_cast<std::size_t>(sampled.max_top);
  FLEXGEN_CHECK(sampled.top_tokens.size() == sampled.tokens.size() * max_top &&
                    sampled.top_scores.size() == sampled.top_tokens.size(),
                not_of_the_sweep);
  return {std::span(sampled.scores).subspan(first, count), sampled.max_top,
          std::span(sampled.top_tokens).subspan(first * max_top, count * max_top),
          std::span(sampled.top_scores).subspan(first * max_top, count * max_top)};
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
    FLEXGEN_CHECK(at + count <= sampled.tokens.size(), not_of_the_sweep);
    if (work.row == no_row) continue;  // what several rows share gives nothing
    const Place place{batch.slot - block.first_slot(), work.cache_row};
    const Sequence& sequence = block.at(place);
    Outputs outputs{std::span(sampled.tokens).subspan(at, count), {}, {}};
    if (work.wants_scores)  // after the prompt's last token comes none of it
      outputs.prompt = scores_of(sampled, at, count - (work.next_token < 0 ? 1 : 0));
    if (work.wants_token && sequence.chooser() && sequence.chooser()->wants_scores())
      outputs.token = scores_of(sampled, at + count - 1, 1);
    take_row(work, outputs, place, block);
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
  if (!are_numbers(outputs.tokens, outputs.prompt.scores) || !are_numbers({}, outputs.token.scores))
    return finish(FinishReason::not_a_number);
  if (!outputs.prompt.scores.empty()) callbacks_.on_scores(work.row, outputs.prompt);
  if (work.wants_token) {
    const std::int32_t token = outputs.tokens.back();
    sequence.take_token(token);
    if (!outputs.token.scores.empty()) callbacks_.on_scores(work.row, outputs.token);
    const bool is_told_to_stop = callbacks_.on_token(work.row, token);
    if (is_told_to_stop || sequence.stops_at(token, eos_tokens_)) return finish(FinishReason::stop);
  }
  if (!sequence.wants_more()) finish(FinishReason::length);
}

}  // namespace flexgen
