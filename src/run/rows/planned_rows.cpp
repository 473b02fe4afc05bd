#include "run/rows/planned_rows.hpp"

#include <fmt/core.h>

#include <algorithm>

#include "batch/token_chooser.hpp"

namespace flexgen {
namespace {

// What OpenAI takes at most; a row of the window that has more makes room for others.
constexpr std::int32_t usual_top = 20;
constexpr std::int32_t usual_biases = 300;

}  // namespace

void PlannedRows::add(const OpenRow& row) {
  ++num_planned_;
  shape_.scores = shape_.scores || row.scores_prompts;
  count_sampling(row, shape_.sampling);
  for (const OpenRow::Sequence& sequence : row.sequences) {
    shape_.add_rows(static_cast<std::int32_t>(row.num_prompt_tokens(sequence)), sequence.max_new_tokens);
    max_new_tokens_ += static_cast<std::uint64_t>(sequence.max_new_tokens);
  }
}

void PlannedRows::expect_more(const ModelSpec& model) {
  shape_.add_rows(model.max_positions, 1);
  shape_.max_new_tokens = std::max(shape_.max_new_tokens, model.max_positions);
  SamplingShape& sampling = shape_.sampling;
  sampling.is_wanted = true;
  sampling.max_top = std::max(sampling.max_top, usual_top);
  sampling.max_adjustments = std::max(sampling.max_adjustments, model.max_positions + usual_biases);
  is_open_ = true;
}

std::string PlannedRows::why_not(const OpenRow& row) const {
  if (!is_open_) return {};
  const auto complain = [&](std::string_view what) {
    return fmt::format(
        "the job was planned by its first {} rows, none of which {}. Move the row, or one like it, to the "
        "front of the input, or into a job of its own",
        num_planned_, what);
  };
  if (row.scores_prompts && !shape_.scores)
    return complain("asks for log-probabilities of its prompt or for 'choices'");
  SamplingShape wanted;
  count_sampling(row, wanted);
  if (wanted.max_adjustments > shape_.sampling.max_adjustments || wanted.max_top > shape_.sampling.max_top)
    return complain("changes the chances of so many tokens");
  return {};
}

void PlannedRows::count_sampling(const OpenRow& row, SamplingShape& sampling) {
  if (!row.rules) return;
  for (const OpenRow::Sequence& sequence : row.sequences)
    count_rules(*row.rules, row.num_prompt_tokens(sequence), sequence.max_new_tokens, sampling);
}

}  // namespace flexgen
