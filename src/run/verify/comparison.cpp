#include "run/verify/comparison.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/error.hpp"

namespace flexgen {
namespace {

constexpr double not_known = std::numeric_limits<double>::quiet_NaN();
constexpr auto num_kept = static_cast<std::size_t>(num_sample_alternatives);

class ScoreSums {
 public:
  void add(const SequenceOutcome& reference, const SequenceOutcome& policy, std::size_t i) {
    const double theirs = reference.scores[i], own = policy.scores[i];
    ++tokens_;
    difference_ += std::abs(own - theirs);
    largest_ = std::max(largest_, std::abs(own - theirs));
    reference_ += theirs;
    policy_ += own;
    if (reference.likeliest[i * num_kept] != policy.likeliest[i * num_kept]) ++num_others_;
  }

  ScoreAgreement agreement() const {
    const auto mean = [this](double sum) { return tokens_ > 0 ? sum / static_cast<double>(tokens_) : not_known; };
    return {tokens_,
            mean(difference_),
            tokens_ > 0 ? largest_ : not_known,
            std::exp(-mean(reference_)),
            std::exp(-mean(policy_)),
            mean(static_cast<double>(num_others_))};
  }

 private:
  std::uint64_t tokens_ = 0, num_others_ = 0;
  double difference_ = 0, largest_ = 0, reference_ = 0, policy_ = 0;
};

// Of the reference, where entry `place` of its scores stands.
double margin_over(const SequenceOutcome& reference, std::size_t place, std::int64_t policy_token) {
  double other = not_known;
  for (std::size_t k = place * num_kept; k < (place + 1) * num_kept && reference.likeliest[k] >= 0; ++k) {
    other = reference.likeliest_scores[k];
    if (reference.likeliest[k] == policy_token) break;
  }
  return double{reference.scores[place]} - other;
}

void compare_tokens(const SampleSequence& sequence, const SequenceOutcome& reference, const SequenceOutcome& policy,
                    double tie_margin, TokenAgreement& to) {
  const std::vector<std::int32_t>&wanted = reference.tokens, &made = policy.tokens;
  ++to.answers;
  to.tokens += wanted.size();
  const auto [theirs, own] = std::ranges::mismatch(wanted, made);
  const auto num_equal = static_cast<std::size_t>(theirs - wanted.begin());
  to.equal_tokens += num_equal;
  if (theirs == wanted.end() && own == made.end()) {
    ++to.equal_answers;
    return;
  }
  TokenDifference difference;
  difference.row = sequence.row;
  difference.position = static_cast<std::int64_t>(num_equal);
  difference.reference_token = theirs == wanted.end() ? -1 : *theirs;
  difference.policy_token = own == made.end() ? -1 : *own;
  const bool have_both = difference.reference_token >= 0 && difference.policy_token >= 0;
  difference.margin =
      have_both ? margin_over(reference, sequence.prompt.size() + num_equal - 1, difference.policy_token) : not_known;
  difference.is_tie = difference.margin <= tie_margin;
  if (difference.is_tie) ++to.ties;
  to.differences.push_back(std::move(difference));
}

}  // namespace

std::string_view closeness_name(Closeness closeness) {
  switch (closeness) {
    case Closeness::exact: return "exact";
    case Closeness::rounded: return "rounded";
    case Closeness::lossy: break;
  }
  return "lossy";
}

double tie_margin(DType dtype) {
  switch (dtype) {
    case DType::float16: return 0.05;
    case DType::bfloat16: return 0.4;
    case DType::float32:
    case DType::float64: break;
  }
  return 1e-4;
}

Comparison compare_runs(const std::vector<SampleSequence>& sequences, const ComparedRuns& runs, double tie_margin) {
  Comparison comparison;
  ScoreSums prompts, answers, all;
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    const SequenceOutcome &reference = runs.reference[s], &policy = runs.policy[s], &scored = runs.scored[s];
    if (!policy.has_numbers || !scored.has_numbers) {
      ++comparison.agreement.without_numbers;
      continue;
    }
    FLEXGEN_CHECK(scored.scores.size() == reference.scores.size(), "both runs score the same texts");
    if (sequences[s].max_new_tokens > 0)
      compare_tokens(sequences[s], reference, policy, tie_margin, comparison.agreement);
    for (std::size_t i = 0; i < reference.scores.size(); ++i) {
      all.add(reference, scored, i);
      (i + 1 < sequences[s].prompt.size() ? prompts : answers).add(reference, scored, i);
    }
  }
  comparison.prompts = prompts.agreement();
  comparison.answers = answers.agreement();
  comparison.all = all.agreement();
  return comparison;
}

std::vector<std::string> judge_policy(const Comparison& comparison, Closeness closeness,
                                      std::optional<double> most_increase) {
  const TokenAgreement& agreement = comparison.agreement;
  std::vector<std::string> reasons;
  if (agreement.without_numbers > 0)
    reasons.push_back(fmt::format("{} sequences gave no numbers where the reference did", agreement.without_numbers));
  const std::size_t num_different = agreement.differences.size();
  if (closeness == Closeness::exact && num_different > 0)
    reasons.push_back(fmt::format("{} answers differ, where all are to be equal", num_different));
  if (closeness == Closeness::rounded && num_different > agreement.ties)
    reasons.push_back(fmt::format("{} answers differ by more than rounding explains", num_different - agreement.ties));
  if (!most_increase || comparison.all.tokens == 0) return reasons;
  const double increase = comparison.all.perplexity_increase();
  if (!(increase <= *most_increase))
    reasons.push_back(fmt::format("the perplexity rises by {:.3g} %, more than {:g} %", increase, *most_increase));
  return reasons;
}

}  // namespace flexgen
