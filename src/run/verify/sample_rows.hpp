// The sequences of a sample as a job runs them, and what comes of each.
//
// Refers to the sample's sequences. Rank 0's, single-threaded.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "run/rows/job_rows.hpp"
#include "run/verify/sample.hpp"

namespace flexgen {

/// Alternatives to a scored token that are kept: a choice that is none of them is no near miss.
inline constexpr std::int32_t num_sample_alternatives = 5;

/// Of one sequence. Its text is its prompt with the tokens behind it; entry i of what is scored is of token i + 1 of
/// that.
struct SequenceOutcome {
  std::vector<std::int32_t> tokens;     // behind the prompt
  std::vector<float> scores;            // [text - 1] log-probabilities
  std::vector<std::int32_t> likeliest;  // [text - 1, num_sample_alternatives] in their order; -1: no more
  std::vector<float> likeliest_scores;  // their log-probabilities
  bool has_numbers = true;              // the model gave some; otherwise nothing here is of use
};

/// What a run is to do: make tokens, score texts whose tokens are there, or make tokens and then score them.
enum class SampleStep : std::uint8_t { generate, score, generate_and_score };

class SampleRows final : public JobRows {
 public:
  /// @param sequences  must outlive this
  /// @param outcomes   of each; for SampleStep::score with the tokens that are scored, otherwise empty ones
  SampleRows(const std::vector<SampleSequence>& sequences, SampleStep step, std::vector<SequenceOutcome> outcomes);

  /// Plans as for a larger job, where that fits; otherwise as for these rows alone.
  void plan_as(const JobShape& job) { larger_job_ = job; }

  JobShape shape() const override { return larger_job_.value_or(own_shape_); }
  bool plan_by_less(const std::string& misfit) override;
  std::optional<RowRequest> next_row() override;
  std::optional<std::int64_t> num_left() const override { return std::ssize(waiting_); }

  /// From the engine.
  void add_token(RowId id, std::int32_t token) { outcomes_[run_of(id).first].tokens.push_back(token); }
  void add_scores(RowId id, const TokenScores& tokens);
  /// True where nothing more of its sequence is to run.
  bool finish(RowId id, FinishReason reason);

  const std::vector<SequenceOutcome>& outcomes() const { return outcomes_; }

 private:
  enum class Part : std::uint8_t { answer, text };
  using Run = std::pair<std::size_t, Part>;  // of which sequence

  /// Two numbers for every sequence.
  static RowId id_of(const Run& run);
  static Run run_of(RowId id);
  std::int64_t text_size(std::size_t sequence) const;
  void score_later(std::size_t sequence);
  void plan_score(std::int64_t num_tokens);

  const std::vector<SampleSequence>& sequences_;
  SampleStep step_;
  std::vector<SequenceOutcome> outcomes_;
  std::shared_ptr<const TokenRules> score_rules_;
  JobShape own_shape_;
  std::optional<JobShape> larger_job_;
  std::deque<Run> waiting_;
};

}  // namespace flexgen
