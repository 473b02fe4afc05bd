#include "run/verify/sample_rows.hpp"

#include "base/error.hpp"
#include "batch/token_chooser.hpp"

namespace flexgen {
namespace {

std::shared_ptr<const TokenRules> rules_of_scores() {
  TokenRules rules;
  rules.num_prompt_top = num_sample_alternatives;
  return std::make_shared<const TokenRules>(std::move(rules));
}

}  // namespace

SampleRows::SampleRows(const std::vector<SampleSequence>& sequences, SampleStep step,
                       std::vector<SequenceOutcome> outcomes)
    : sequences_(sequences), step_(step), outcomes_(std::move(outcomes)), score_rules_(rules_of_scores()) {
  FLEXGEN_CHECK(outcomes_.size() == sequences_.size(), "a sample has an outcome for each of its sequences");
  for (std::size_t s = 0; s < sequences_.size(); ++s) {
    const std::int32_t num_new = sequences_[s].max_new_tokens;
    if (step_ == SampleStep::score) {
      plan_score(text_size(s));
      score_later(s);
      continue;
    }
    const auto num_prompt = static_cast<std::int32_t>(sequences_[s].prompt.size());
    if (step_ == SampleStep::generate_and_score) plan_score(std::int64_t{num_prompt} + num_new);
    if (num_new > 0) {
      own_shape_.add_rows(num_prompt, num_new);
      waiting_.emplace_back(s, Part::answer);
    } else if (step_ == SampleStep::generate_and_score) {
      score_later(s);
    }
  }
}

void SampleRows::plan_score(std::int64_t num_tokens) {
  if (num_tokens < 2) return;
  own_shape_.add_rows(static_cast<std::int32_t>(num_tokens), 0);
  own_shape_.scores = true;
  count_rules(*score_rules_, num_tokens, 0, own_shape_.sampling);
}

bool SampleRows::plan_by_less(const std::string&) {
  const bool planned_larger = larger_job_.has_value();
  larger_job_.reset();
  return planned_larger;
}

RowId SampleRows::id_of(const Run& run) {
  return RowId(2 * static_cast<std::int64_t>(run.first) + (run.second == Part::text ? 1 : 0));
}

SampleRows::Run SampleRows::run_of(RowId id) {
  return {static_cast<std::size_t>(id.value / 2), id.value % 2 == 1 ? Part::text : Part::answer};
}

std::int64_t SampleRows::text_size(std::size_t sequence) const {
  return std::ssize(sequences_[sequence].prompt) + std::ssize(outcomes_[sequence].tokens);
}

/// Of a single token nothing is predicted.
void SampleRows::score_later(std::size_t sequence) {
  if (outcomes_[sequence].has_numbers && text_size(sequence) > 1) waiting_.emplace_back(sequence, Part::text);
}

std::optional<RowRequest> SampleRows::next_row() {
  if (waiting_.empty()) return std::nullopt;
  const Run run = waiting_.front();
  waiting_.pop_front();
  const SampleSequence& own = sequences_[run.first];
  RowRequest row;
  row.id = id_of(run);
  row.prompt = own.prompt;
  if (run.second == Part::answer) {
    row.max_new_tokens = own.max_new_tokens;
    row.stop_at_eos = own.stops_at_eos;
    row.stop_tokens = own.stop_tokens;
    return row;
  }
  const std::vector<std::int32_t>& tokens = outcomes_[run.first].tokens;
  row.prompt.insert(row.prompt.end(), tokens.begin(), tokens.end());
  row.max_new_tokens = 0;
  row.score_prompt = true;
  row.rules = score_rules_;
  return row;
}

void SampleRows::add_scores(RowId id, const TokenScores& tokens) {
  SequenceOutcome& outcome = outcomes_[run_of(id).first];
  FLEXGEN_CHECK(tokens.max_top >= num_sample_alternatives, "a token comes with fewer alternatives than were asked for");
  outcome.scores.insert(outcome.scores.end(), tokens.scores.begin(), tokens.scores.end());
  const auto stride = static_cast<std::size_t>(tokens.max_top);
  for (std::size_t i = 0; i < tokens.scores.size(); ++i) {
    const auto ids = tokens.top_tokens.subspan(i * stride, num_sample_alternatives);
    const auto scores = tokens.top_scores.subspan(i * stride, num_sample_alternatives);
    outcome.likeliest.insert(outcome.likeliest.end(), ids.begin(), ids.end());
    outcome.likeliest_scores.insert(outcome.likeliest_scores.end(), scores.begin(), scores.end());
  }
}

bool SampleRows::finish(RowId id, FinishReason reason) {
  const auto [sequence, part] = run_of(id);
  if (reason == FinishReason::not_a_number) outcomes_[sequence].has_numbers = false;
  const std::size_t num_waiting = waiting_.size();
  if (part == Part::answer && step_ == SampleStep::generate_and_score) score_later(sequence);
  return waiting_.size() == num_waiting;
}

}  // namespace flexgen
