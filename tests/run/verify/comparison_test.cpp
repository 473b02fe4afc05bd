// Made-up answers and scores beside each other: what counts as equal, as a tie, as a cost, and as a failure.
#include "run/verify/comparison.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace flexgen::test {
namespace {

// A prompt of two tokens; its text has so many scores as tokens behind the first.
std::vector<SampleSequence> one_sequence(std::int32_t max_new_tokens = 3) {
  return {{"row", {7, 8}, max_new_tokens, true}};
}

// Every token has log-probability -1 and is the likeliest; 90 follows it by `margin`, and then 91, 92, 93 by 5.
SequenceOutcome outcome(std::vector<std::int32_t> tokens, float margin = 2) {
  SequenceOutcome made;
  made.tokens = std::move(tokens);
  std::vector<std::int32_t> text{8};
  text.insert(text.end(), made.tokens.begin(), made.tokens.end());
  for (const std::int32_t token : text) {
    made.scores.push_back(-1);
    made.likeliest.insert(made.likeliest.end(), {token, 90, 91, 92, 93});
    made.likeliest_scores.insert(made.likeliest_scores.end(), {-1, -1 - margin, -6, -6, -6});
  }
  return made;
}

Comparison compare(const SequenceOutcome& reference, const SequenceOutcome& policy, double tie_margin = 0.4) {
  const std::vector<SequenceOutcome> references{reference}, policies{policy};
  return compare_runs(one_sequence(), {references, policies, references}, tie_margin);
}

TEST(Comparison, EqualRunsDifferInNothing) {
  const Comparison same = compare(outcome({1, 2, 3}), outcome({1, 2, 3}));
  EXPECT_EQ(same.agreement.answers, 1U);
  EXPECT_EQ(same.agreement.equal_answers, 1U);
  EXPECT_EQ(same.agreement.tokens, 3U);
  EXPECT_EQ(same.agreement.equal_tokens, 3U);
  EXPECT_TRUE(same.agreement.differences.empty());
  EXPECT_EQ(same.prompts.tokens, 1U);
  EXPECT_EQ(same.answers.tokens, 3U);
  EXPECT_EQ(same.all.tokens, 4U);
  EXPECT_EQ(same.all.largest_difference, 0);
  EXPECT_DOUBLE_EQ(same.all.reference_perplexity, std::exp(1.0));
  for (const Closeness closeness : {Closeness::exact, Closeness::rounded, Closeness::lossy})
    EXPECT_TRUE(judge_policy(same, closeness, 0.0).empty());
}

TEST(Comparison, TheFirstDifferenceCountsWithTheReferencesMargin) {
  const Comparison other = compare(outcome({1, 2, 3}), outcome({1, 90, 4}));
  ASSERT_EQ(other.agreement.differences.size(), 1U);
  const TokenDifference& difference = other.agreement.differences[0];
  EXPECT_EQ(difference.row, "row");
  EXPECT_EQ(difference.position, 1);
  EXPECT_EQ(difference.reference_token, 2);
  EXPECT_EQ(difference.policy_token, 90);
  EXPECT_FLOAT_EQ(static_cast<float>(difference.margin), 2);
  EXPECT_FALSE(difference.is_tie);
  EXPECT_EQ(other.agreement.equal_tokens, 1U);
  EXPECT_EQ(other.agreement.equal_answers, 0U);
  EXPECT_EQ(judge_policy(other, Closeness::exact, {}).size(), 1U);
  EXPECT_EQ(judge_policy(other, Closeness::rounded, {}).size(), 1U);
  EXPECT_TRUE(judge_policy(other, Closeness::lossy, {}).empty());
}

// The margin is looked up in the place of the difference: elsewhere the reference is sure.
TEST(Comparison, ATieIsExcusedByRoundingAlone) {
  SequenceOutcome reference = outcome({1, 2, 3}, 2);
  reference.likeliest_scores[3 * num_sample_alternatives + 1] = -1.25F;  // of the third token
  const Comparison tie = compare(reference, outcome({1, 2, 90}));
  ASSERT_EQ(tie.agreement.differences.size(), 1U);
  EXPECT_NEAR(tie.agreement.differences[0].margin, 0.25, 1e-6);
  EXPECT_EQ(tie.agreement.ties, 1U);
  EXPECT_TRUE(judge_policy(tie, Closeness::rounded, {}).empty());
  EXPECT_EQ(judge_policy(tie, Closeness::exact, {}).size(), 1U);
  const Comparison stricter = compare(reference, outcome({1, 2, 90}), 0.2);
  EXPECT_EQ(judge_policy(stricter, Closeness::rounded, {}).size(), 1U);
}

TEST(Comparison, AChoiceThatIsNoneOfTheLikeliestIsAtLeastAsFarAsTheLastOfThem) {
  const Comparison other = compare(outcome({1, 2, 3}, 0.1F), outcome({55}));
  EXPECT_NEAR(other.agreement.differences.at(0).margin, 5, 1e-6);
  EXPECT_EQ(other.agreement.ties, 0U);
}

TEST(Comparison, AnAnswerThatEndsElsewhereDiffers) {
  for (const auto& [reference, policy] :
       {std::pair(outcome({1, 2, 3}), outcome({1, 2})), std::pair(outcome({1, 2}), outcome({1, 2, 3}))}) {
    const Comparison other = compare(reference, policy);
    ASSERT_EQ(other.agreement.differences.size(), 1U);
    EXPECT_TRUE(std::isnan(other.agreement.differences[0].margin));
    EXPECT_FALSE(other.agreement.differences[0].is_tie);
    EXPECT_EQ(judge_policy(other, Closeness::rounded, {}).size(), 1U);
  }
}

TEST(Comparison, ScoresOfTheSameTextsTellTheCost) {
  const std::vector<SequenceOutcome> reference{outcome({1, 2, 3})};
  std::vector<SequenceOutcome> scored = reference;
  scored[0].scores = {-1, -1.5F, -1, -0.9F};
  scored[0].likeliest[num_sample_alternatives] = 90;
  const Comparison cost = compare_runs(one_sequence(), {reference, reference, scored}, 0);
  EXPECT_EQ(cost.prompts.largest_difference, 0);
  EXPECT_NEAR(cost.all.largest_difference, 0.5, 1e-6);
  EXPECT_NEAR(cost.all.mean_difference, 0.15, 1e-6);
  EXPECT_NEAR(cost.answers.mean_difference, 0.2, 1e-6);
  EXPECT_DOUBLE_EQ(cost.all.other_choices, 0.25);
  EXPECT_DOUBLE_EQ(cost.prompts.other_choices, 0);
  EXPECT_NEAR(cost.all.policy_perplexity, std::exp(1.1), 1e-6);
  EXPECT_NEAR(cost.all.perplexity_increase(), 100 * (std::exp(0.1) - 1), 1e-4);
  EXPECT_TRUE(judge_policy(cost, Closeness::lossy, {}).empty());
  EXPECT_TRUE(judge_policy(cost, Closeness::lossy, 10.6).empty());
  EXPECT_EQ(judge_policy(cost, Closeness::lossy, 10.4).size(), 1U);
}

TEST(Comparison, APolicyWithoutNumbersFailsHoweverCloseItHasToBe) {
  const std::vector<SequenceOutcome> reference{outcome({1, 2, 3})};
  std::vector<SequenceOutcome> broken(1);
  broken[0].has_numbers = false;
  for (const ComparedRuns& runs :
       {ComparedRuns{reference, broken, reference}, ComparedRuns{reference, reference, broken}}) {
    const Comparison none = compare_runs(one_sequence(), runs, 1);
    EXPECT_EQ(none.agreement.without_numbers, 1U);
    EXPECT_EQ(none.agreement.answers, 0U);
    EXPECT_EQ(none.all.tokens, 0U);
    EXPECT_TRUE(std::isnan(none.all.reference_perplexity));
    EXPECT_EQ(judge_policy(none, Closeness::lossy, {}).size(), 1U);
  }
}

TEST(Comparison, SixteenBitsExcuseMoreTheFewerOfThemAreDigits) {
  EXPECT_GT(tie_margin(DType::bfloat16), tie_margin(DType::float16));
  EXPECT_GT(tie_margin(DType::float16), tie_margin(DType::float32));
}

}  // namespace
}  // namespace flexgen::test
