// Rows in, sequences of a sample out, and what a run does with them, with made-up tokens and scores for the model's.
#include "run/verify/sample.hpp"

#include <gtest/gtest.h>

#include <set>

#include "base/error.hpp"
#include "run/verify/sample_rows.hpp"
#include "tests/support/row_files.hpp"

namespace flexgen::test {
namespace {

using nlohmann::json;
using Ids = std::vector<std::int32_t>;

class SampleTest : public RowFilesTest {
 protected:
  Sample sample(const std::vector<json>& rows, std::size_t num_rows, std::optional<std::uint64_t> seed = {}) {
    std::ofstream input(place_ / "in.jsonl");
    for (const json& row : rows) input << row.dump() << "\n";
    input.close();
    RequestReader reader((place_ / "in.jsonl").string(), RequestDefaults{4});
    return read_sample(reader, {tokenizer(), model_}, num_rows, seed);
  }

  static std::vector<json> numbered(std::int32_t count) {
    std::vector<json> rows;
    for (std::int32_t i = 0; i < count; ++i) rows.push_back({{"prompt", {i + 10, 5}}, {"max_tokens", i + 1}});
    return rows;
  }

  static std::vector<std::int32_t> firsts(const Sample& sample) {
    std::vector<std::int32_t> all;
    for (const SampleSequence& one : sample.sequences) all.push_back(one.prompt.front());
    return all;
  }
};

TEST_F(SampleTest, TheFirstRowsThatCanRun) {
  std::vector<json> rows = numbered(5);
  rows.insert(rows.begin(), json{{"prompt", {1 << 30}}});
  const Sample first = sample(rows, 3);
  EXPECT_EQ(firsts(first), (Ids{10, 11, 12}));
  EXPECT_EQ(first.num_rows, 3U);
  EXPECT_EQ(first.num_read, 6U);
  EXPECT_EQ(first.num_bad_rows, 1U);
  EXPECT_FALSE(first.first_fault.empty());
  EXPECT_EQ(first.job.num_rows, 5) << "the plan is that of the whole job";
  EXPECT_EQ(first.job.max_new_tokens, 5);
}

TEST_F(SampleTest, ASeedDrawsFromTheWholeInputInItsOrder) {
  const std::vector<json> rows = numbered(60);
  std::set<Ids> draws;
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    const Ids drawn = firsts(sample(rows, 6, seed));
    EXPECT_EQ(drawn.size(), 6U);
    EXPECT_EQ(std::set<std::int32_t>(drawn.begin(), drawn.end()).size(), 6U);
    EXPECT_TRUE(std::ranges::is_sorted(drawn));
    EXPECT_EQ(drawn, firsts(sample(rows, 6, seed)));
    draws.insert(drawn);
  }
  EXPECT_EQ(draws.size(), 4U);
}

TEST_F(SampleTest, AnswersToOnePromptAreOneAndChoicesAreTexts) {
  const Sample one = sample({{{"prompt", {{3, 4}, {5, 6}}}, {"n", 3}, {"temperature", 1}, {"max_tokens", 2}},
                             {{"prompt", "Is it?"}, {"choices", {" yes", " no"}}}},
                            9);
  ASSERT_EQ(one.sequences.size(), 4U);
  EXPECT_EQ(one.sequences[0].prompt, (Ids{3, 4}));
  EXPECT_EQ(one.sequences[1].prompt, (Ids{5, 6}));
  EXPECT_EQ(one.sequences[1].max_new_tokens, 2);
  EXPECT_EQ(one.sequences[2].max_new_tokens, 0);
  EXPECT_NE(one.sequences[2].prompt, one.sequences[3].prompt);
}

TEST_F(SampleTest, PromptAndAnswerFitTheModelTogether) {
  const Ids prompt(static_cast<std::size_t>(model_.max_positions) - 3, 7);
  const Sample longest = sample({{{"prompt", prompt}, {"max_tokens", 4}}}, 1);
  EXPECT_EQ(longest.sequences.at(0).max_new_tokens, 3);
}

TEST_F(SampleTest, WithoutRowsThereIsNothingToVerify) {
  EXPECT_THROW(sample({}, 4), UserError);
  EXPECT_THROW(sample({{{"prompt", {1 << 30}}}}, 4), UserError);
}

TEST_F(SampleTest, WhatIsGeneratedIsScoredBehindItsPrompt) {
  const std::vector<SampleSequence> sequences{{"a", {3, 4}, 2, true}, {"b", {5}, 0, true}, {"c", {6, 7}, 0, true}};
  SampleRows rows(sequences, SampleStep::generate_and_score, std::vector<SequenceOutcome>(3));
  EXPECT_TRUE(rows.shape().scores);
  EXPECT_EQ(rows.shape().max_row_tokens, 4);
  EXPECT_EQ(rows.shape().sampling.max_top, num_sample_alternatives);
  const std::vector<RowRequest> first = pull_all(rows);
  ASSERT_EQ(first.size(), 2U) << "of a single token nothing is predicted";
  EXPECT_EQ(first[0].max_new_tokens, 2);
  EXPECT_FALSE(first[0].score_prompt);
  EXPECT_EQ(first[1].prompt, (Ids{6, 7}));
  EXPECT_TRUE(first[1].score_prompt);
  rows.add_token(first[0].id, 8);
  rows.add_token(first[0].id, 9);
  EXPECT_FALSE(rows.finish(first[0].id, FinishReason::length));
  const std::vector<RowRequest> second = pull_all(rows);
  ASSERT_EQ(second.size(), 1U);
  EXPECT_EQ(second[0].prompt, (Ids{3, 4, 8, 9}));
  EXPECT_EQ(second[0].max_new_tokens, 0);

  // The engine may bring more alternatives than were asked for.
  const std::vector<float> scores{-1, -2, -3};
  std::vector<std::int32_t> top;
  std::vector<float> top_scores;
  for (std::int32_t i = 0; i < 3 * 7; ++i) {
    top.push_back(i);
    top_scores.push_back(-static_cast<float>(i));
  }
  rows.add_scores(second[0].id, {scores, 7, top, top_scores});
  EXPECT_TRUE(rows.finish(second[0].id, FinishReason::length));
  const SequenceOutcome& made = rows.outcomes()[0];
  EXPECT_EQ(made.tokens, (Ids{8, 9}));
  EXPECT_EQ(made.scores, scores);
  EXPECT_EQ(made.likeliest, (Ids{0, 1, 2, 3, 4, 7, 8, 9, 10, 11, 14, 15, 16, 17, 18}));
  EXPECT_TRUE(made.has_numbers);
}

TEST_F(SampleTest, WithoutNumbersNothingIsScored) {
  const std::vector<SampleSequence> sequences{{"a", {3, 4}, 2, true}};
  SampleRows rows(sequences, SampleStep::generate_and_score, std::vector<SequenceOutcome>(1));
  const RowRequest row = pull_all(rows).at(0);
  EXPECT_TRUE(rows.finish(row.id, FinishReason::not_a_number));
  EXPECT_TRUE(pull_all(rows).empty());
  EXPECT_FALSE(rows.outcomes()[0].has_numbers);
}

TEST_F(SampleTest, ALargerJobsPlanIsGivenUpWhereItDoesNotFit) {
  const std::vector<SampleSequence> sequences{{"a", {3, 4}, 2, true}};
  SampleRows rows(sequences, SampleStep::generate, std::vector<SequenceOutcome>(1));
  EXPECT_FALSE(rows.plan_by_less("memory"));
  JobShape larger;
  larger.add_rows(100, 50, 20);
  rows.plan_as(larger);
  EXPECT_EQ(rows.shape().num_rows, 20);
  EXPECT_TRUE(rows.plan_by_less("memory"));
  EXPECT_EQ(rows.shape().num_rows, 1);
  EXPECT_FALSE(rows.shape().scores);
}

}  // namespace
}  // namespace flexgen::test
