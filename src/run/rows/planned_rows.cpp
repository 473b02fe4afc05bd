#include "run/rows/planned_rows.hpp"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "batch/prefix_tree.hpp"
#include "batch/token_chooser.hpp"

namespace flexgen {
namespace {

// What OpenAI takes at most; a row of the window that has more makes room for others.
constexpr std::int32_t usual_top = 20;
constexpr std::int32_t usual_biases = 300;

void add_row(const OpenRow& row, JobShape& shape) {
  shape.scores = shape.scores || row.scores_prompts;
  for (const OpenRow::Sequence& sequence : row.sequences) {
    const std::int64_t prompt = row.num_prompt_tokens(sequence);
    shape.add_rows(static_cast<std::int32_t>(prompt), sequence.max_new_tokens);
    if (row.rules) count_rules(*row.rules, prompt, sequence.max_new_tokens, shape.sampling);
  }
}

void make_room(const SamplingShape& wanted, SamplingShape& sampling) {
  sampling.is_wanted = sampling.is_wanted || wanted.is_wanted;
  sampling.max_top = std::max(sampling.max_top, wanted.max_top);
  sampling.max_adjustments = std::max(sampling.max_adjustments, wanted.max_adjustments);
}

}  // namespace

JobShape needs_of(const OpenRow& row) {
  JobShape needs;
  add_row(row, needs);
  return needs;
}

bool covers(const JobShape& plan, const JobShape& needs) {
  return (plan.scores || !needs.scores) && needs.max_prompt_tokens <= plan.max_prompt_tokens &&
         needs.max_new_tokens <= plan.max_new_tokens && needs.max_row_tokens <= plan.max_row_tokens &&
         (plan.sampling.is_wanted || !needs.sampling.is_wanted) && needs.sampling.max_top <= plan.sampling.max_top &&
         needs.sampling.max_adjustments <= plan.sampling.max_adjustments;
}

std::string describe_lack(const JobShape& plan, const JobShape& needs) {
  std::vector<std::string> lacks;
  if (needs.scores && !plan.scores) lacks.emplace_back("log-probabilities of prompts");
  if (needs.max_row_tokens > plan.max_row_tokens)
    lacks.push_back(fmt::format("rows of {} tokens", needs.max_row_tokens));
  if (needs.sampling.is_wanted && !plan.sampling.is_wanted) lacks.emplace_back("tokens that are drawn or scored");
  if (needs.sampling.max_top > plan.sampling.max_top)
    lacks.push_back(fmt::format("{} alternatives to a token", needs.sampling.max_top));
  if (needs.sampling.max_adjustments > plan.sampling.max_adjustments)
    lacks.push_back(fmt::format("changed chances of {} tokens", needs.sampling.max_adjustments));
  return lacks.empty() ? "longer prompts or answers" : fmt::format("{}", fmt::join(lacks, ", "));
}

void PlannedRows::begin() {
  shape_ = {};
  num_rows_ = 0;
  is_open_ = false;
  beginnings_ = {};
}

void PlannedRows::forget() {
  wants_scores_ = false;
  wanted_sampling_ = {};
}

void PlannedRows::add(const OpenRow& row) {
  ++num_rows_;
  add_row(row, shape_);
  // Of a prompt's sequences the first reads it.
  for (const OpenRow::FittedPrompt& prompt : row.prompts) {
    shape_.shared_prompt_tokens += beginnings_.add(prompt.ids);
    const auto others = static_cast<std::int64_t>(row.sequences_per_prompt()) - 1;
    shape_.shared_prompt_tokens += others * shareable_tokens(prompt.ids.size());
  }
  wants_scores_ = wants_scores_ || shape_.scores;
  make_room(shape_.sampling, wanted_sampling_);
}

void PlannedRows::expect_more(const ModelSpec& model) {
  is_open_ = true;
  shape_.add_rows(model.max_positions, 1);
  shape_.max_new_tokens = std::max(shape_.max_new_tokens, model.max_positions);
  shape_.scores = shape_.scores || wants_scores_;
  make_room(wanted_sampling_, shape_.sampling);
  make_room({true, usual_top, model.max_positions + usual_biases}, shape_.sampling);
}

}  // namespace flexgen
