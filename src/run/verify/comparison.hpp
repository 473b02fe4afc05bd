// What a policy's answers and scores are beside those of a reference: equal tokens, and where they differ whether the
// reference itself was close to the other choice; log-probabilities, perplexity and likeliest tokens of the same texts.
//
// Plain data and pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fields.hpp"
#include "run/verify/sample.hpp"
#include "run/verify/sample_rows.hpp"
#include "spec/dtype.hpp"

namespace flexgen {

/// How close a policy has to come to its reference.
enum class Closeness : std::uint8_t {
  exact,    // both compute in float32 with the same weights and cache: every token is equal
  rounded,  // a 16-bit type: tokens differ where the reference's choice was as good as a tie
  lossy,    // compression, or sparse attention, that the reference does without: tokens may differ
};
std::string_view closeness_name(Closeness closeness);

/// The first token in which an answer differs; what follows stands behind another text, and is not compared.
struct TokenDifference {
  std::string row;
  std::int64_t position = 0;                           // of the answer's tokens
  std::int64_t reference_token = 0, policy_token = 0;  // -1: the answer has ended
  /// By how much the log-probability of the reference's token exceeds that of the policy's, by the reference; where the
  /// policy's is none of the likeliest few, of the last of these. Not finite where that is not known.
  double margin = 0;
  bool is_tie = false;
  static constexpr auto fields() {
    return std::tuple(field("row", &TokenDifference::row), field("position", &TokenDifference::position),
                      field("reference_token", &TokenDifference::reference_token),
                      field("policy_token", &TokenDifference::policy_token), field("margin", &TokenDifference::margin),
                      field("is_tie", &TokenDifference::is_tie));
  }
};

struct TokenAgreement {
  std::uint64_t answers = 0, equal_answers = 0;
  std::uint64_t tokens = 0, equal_tokens = 0;  // of the reference; up to each answer's first difference
  std::uint64_t ties = 0;                      // of the differences
  std::uint64_t without_numbers = 0;           // sequences for which the policy gave none
  std::vector<TokenDifference> differences;    // one for each answer that differs
  static constexpr auto fields() {
    return std::tuple(field("answers", &TokenAgreement::answers),
                      field("equal_answers", &TokenAgreement::equal_answers), field("tokens", &TokenAgreement::tokens),
                      field("equal_tokens", &TokenAgreement::equal_tokens), field("ties", &TokenAgreement::ties),
                      field("without_numbers", &TokenAgreement::without_numbers),
                      field("differences", &TokenAgreement::differences));
  }
};

/// Over tokens of the same texts, each behind the same tokens. Figures are not finite where there are none.
struct ScoreAgreement {
  std::uint64_t tokens = 0;
  double mean_difference = 0, largest_difference = 0;  // of log-probabilities, absolute
  double reference_perplexity = 0, policy_perplexity = 0;
  double other_choices = 0;  // share of the tokens in whose place another one is the likeliest, 0 .. 1

  /// How much more perplexed the policy is, in percent.
  double perplexity_increase() const { return 100 * (policy_perplexity / reference_perplexity - 1); }
  static constexpr auto fields() {
    return std::tuple(field("tokens", &ScoreAgreement::tokens),
                      field("mean_difference", &ScoreAgreement::mean_difference),
                      field("largest_difference", &ScoreAgreement::largest_difference),
                      field("reference_perplexity", &ScoreAgreement::reference_perplexity),
                      field("policy_perplexity", &ScoreAgreement::policy_perplexity),
                      field("other_choices", &ScoreAgreement::other_choices));
  }
};

struct Comparison {
  TokenAgreement agreement;
  ScoreAgreement prompts, answers, all;
  static constexpr auto fields() {
    return std::tuple(field("agreement", &Comparison::agreement), field("prompts", &Comparison::prompts),
                      field("answers", &Comparison::answers), field("all", &Comparison::all));
  }
};

/// What the runs have given, sequence by sequence.
struct ComparedRuns {
  const std::vector<SequenceOutcome>& reference;  // tokens and scores
  const std::vector<SequenceOutcome>& policy;     // its own tokens
  const std::vector<SequenceOutcome>& scored;     // of the reference's texts, by the policy
};

/// Up to which margin of the reference a difference is a tie. Behind 150 prompts of random tokens the demo model chose
/// otherwise up to margins of 0.0040 in float16 and 0.099 in bfloat16; deeper models have room for some times that.
double tie_margin(DType dtype);

/// Sequences for which the policy has no numbers are counted, and compared in nothing; the reference has all.
Comparison compare_runs(const std::vector<SampleSequence>& sequences, const ComparedRuns& runs, double tie_margin);

/// Why the policy fails; empty where it does not.
/// @param most_increase  of the perplexity of all texts, in percent; none: by however much
std::vector<std::string> judge_policy(const Comparison& comparison, Closeness closeness,
                                      std::optional<double> most_increase);

}  // namespace flexgen
