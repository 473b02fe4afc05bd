// Rows that ask for more than one likeliest answer: how they go in, and what becomes of made-up tokens and numbers.
#include <gtest/gtest.h>

#include <cmath>

#include "run/rows/row_book.hpp"
#include "tests/support/row_files.hpp"

namespace flexgen::test {
namespace {

using nlohmann::json;
using Ids = std::vector<std::int32_t>;

class AnswersTest : public test::RowFilesTest {
 protected:
  static Ids plain_ids(const std::string& text) { return tokenizer().encode(text, false); }

  std::vector<RowRequest> read(const std::vector<json>& rows) {
    read_rows(book_, rows, RequestDefaults{8});
    return pull_all(book_);
  }
  /// A token whose log-probability is `score`, with alternatives 301, 302, ... of -1, -2, ...
  void feed(RowId id, std::int32_t token, float score, std::int32_t max_top = 0) {
    tell_scores(id, {score}, max_top);
    book_.add_token(id, token);
  }
  void tell_scores(RowId id, const std::vector<float>& scores, std::int32_t max_top = 0) {
    Ids top;
    std::vector<float> top_scores;
    for (std::size_t i = 0; i < scores.size(); ++i)
      for (std::int32_t t = 0; t < max_top; ++t) {
        top.push_back(301 + t);
        top_scores.push_back(static_cast<float>(-1 - t));
      }
    book_.add_scores(id, {scores, max_top, top, top_scores});
  }
  std::string text_of(std::int32_t token) { return tokenizer().token_bytes(token); }

  RowBook book_{tokenizer(), model_, writer_, ResultFormat{true, "demo-model", 1700000000}};
};

TEST_F(AnswersTest, PlainRowsHaveNoRules) {
  const std::vector<RowRequest> rows =
      read({{{"prompt", "x"}}, {{"prompt", "x"}, {"seed", 5}, {"top_p", 0.5}, {"best_of", 4}, {"echo", true}}});
  ASSERT_EQ(rows.size(), 2U);
  for (const RowRequest& row : rows) {
    EXPECT_EQ(row.rules, nullptr);
    EXPECT_FALSE(row.score_prompt);
  }
  EXPECT_FALSE(book_.shape().sampling.is_wanted);
  EXPECT_FALSE(book_.shape().scores);
}

TEST_F(AnswersTest, AnswersOfARowShareRulesAndDrawForThemselves) {
  const std::vector<RowRequest> rows = read({{{"prompt", {"a", "b"}},
                                              {"n", 2},
                                              {"best_of", 3},
                                              {"temperature", 0.5},
                                              {"seed", 9},
                                              {"ignore_eos", true},
                                              {"min_tokens", 2},
                                              {"stop_token_ids", {7}}}});
  ASSERT_EQ(rows.size(), 6U);
  for (std::uint32_t i = 0; i < 6; ++i) {
    EXPECT_EQ(rows[i].answer, i);
    EXPECT_EQ(rows[i].rules, rows[0].rules);
    EXPECT_EQ(rows[i].prompt, tokenizer().encode(i < 3 ? "a" : "b"));
    EXPECT_FALSE(rows[i].stop_at_eos);
    EXPECT_EQ(rows[i].stop_tokens, Ids{7});
  }
  EXPECT_EQ(rows[0].rules->sampling.temperature, 0.5F);
  EXPECT_EQ(rows[0].rules->sampling.seed, 9U);
  EXPECT_EQ(rows[0].rules->sampling.num_logprobs, 0) << "the best are found by them";
  EXPECT_EQ(rows[0].rules->end_tokens, Ids{7}) << "the model's own end ends nothing";
  EXPECT_TRUE(book_.shape().sampling.is_wanted);
  EXPECT_EQ(book_.shape().num_rows, 6);
}

TEST_F(AnswersTest, TheBestAreTheLikeliestPerToken) {
  const std::vector<RowRequest> rows =
      read({{{"custom_id", "a"}, {"prompt", "q"}, {"n", 2}, {"best_of", 4}, {"temperature", 1}}});
  ASSERT_EQ(rows.size(), 4U);
  const auto run = [&](std::int64_t id, const std::vector<float>& scores) {
    for (const float score : scores) feed(RowId(id), static_cast<std::int32_t>(200 + id), score);
    return book_.finish(RowId(id), FinishReason::length);
  };
  EXPECT_FALSE(run(0, {-2}));
  EXPECT_FALSE(run(1, {-1, -1, -1, -1}));  // the least sum, the second of the means
  EXPECT_FALSE(run(2, {-0.5F, -0.7F}));
  EXPECT_TRUE(run(3, {-1.5F}));
  const json line = results().at(0);
  ASSERT_EQ(line.at("choices").size(), 2U);
  EXPECT_EQ(line["choices"][0]["token_ids"], (Ids{202, 202}));
  EXPECT_EQ(line["choices"][1]["token_ids"], (Ids{201, 201, 201, 201}));
  EXPECT_EQ(line["choices"][0]["index"], 0);
  EXPECT_EQ(line["choices"][1]["index"], 1);
  EXPECT_FALSE(line["choices"][0].contains("logprobs")) << "nobody asked for them";
  EXPECT_EQ(line["usage"]["prompt_tokens"], rows[0].prompt.size()) << "a prompt counts once";
  EXPECT_EQ(line["usage"]["completion_tokens"], 8) << "what was not chosen was generated, too";
}

TEST_F(AnswersTest, LogProbabilitiesStandBesideEveryTokenTheEndIncluded) {
  read({{{"prompt", "q"}, {"logprobs", 2}}});
  feed(RowId(0), 200, -1.25F, 3);
  feed(RowId(0), model_.eos_tokens.front(), -0.5F, 2);
  book_.finish(RowId(0), FinishReason::stop);
  const json line = results().at(0);
  EXPECT_EQ(line["text"], text_of(200));
  const json& logprobs = line["logprobs"];
  EXPECT_EQ(logprobs["tokens"], json({text_of(200), "</s>"}));
  EXPECT_EQ(logprobs["token_logprobs"], json({-1.25, -0.5}));
  const json top{{text_of(301), -1.0}, {text_of(302), -2.0}, {text_of(200), -1.25}};
  EXPECT_EQ(logprobs["top_logprobs"][0], top) << "as many as were asked for, and the token";
}

// The numbers count what the row gave: the token that the tokenizer puts in front has no entry.
TEST_F(AnswersTest, TheEchoOfATextStartsWithANumberThatOfIdsWithNull) {
  const std::vector<RowRequest> rows =
      read({{{"prompt", "What is"}, {"echo", true}, {"logprobs", 1}, {"max_tokens", 1}},
            {{"prompt", {2, 200}}, {"echo", true}, {"logprobs", 0}, {"max_tokens", 0}}});
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_TRUE(rows[0].score_prompt);
  EXPECT_EQ(rows[0].rules->num_prompt_top, 1);
  EXPECT_EQ(rows[1].max_new_tokens, 0);
  EXPECT_TRUE(book_.shape().scores);
  ASSERT_EQ(rows[0].prompt.size(), 3U);
  tell_scores(RowId(0), {-3}, 2);  // chunk by chunk
  tell_scores(RowId(0), {-4}, 1);
  feed(RowId(0), 300, -5, 1);
  book_.finish(RowId(0), FinishReason::length);
  tell_scores(RowId(1), {-6});
  book_.finish(RowId(1), FinishReason::length);
  const json text = results().at(0), ids = results().at(1);
  EXPECT_EQ(text["text"], "What is" + text_of(300));
  EXPECT_EQ(text["logprobs"]["tokens"], json({"What", " is", text_of(300)}));
  EXPECT_EQ(text["logprobs"]["token_logprobs"], json({-3.0, -4.0, -5.0}));
  EXPECT_EQ(text["logprobs"]["text_offset"], json({0, 4, 7}));
  EXPECT_EQ(text["usage"]["prompt_tokens"], 3);
  EXPECT_EQ(ids["text"], "</s>" + text_of(200));
  EXPECT_EQ(ids["logprobs"]["tokens"], json({"</s>", text_of(200)}));
  EXPECT_EQ(ids["logprobs"]["token_logprobs"], json({nullptr, -6.0}));
  EXPECT_EQ(ids["finish_reason"], "length");
}

TEST_F(AnswersTest, ThePromptsNumbersHaveAFieldOfTheirOwn) {
  const std::vector<RowRequest> rows = read({{{"prompt", "What is"}, {"prompt_logprobs", 1}, {"max_tokens", 1}}});
  EXPECT_EQ(rows.at(0).rules->num_prompt_top, 1);
  tell_scores(RowId(0), {-3, -4}, 1);
  book_.add_token(RowId(0), 300);
  book_.finish(RowId(0), FinishReason::length);
  const json line = results().at(0);
  EXPECT_EQ(line["text"], text_of(300));
  EXPECT_FALSE(line.contains("logprobs"));
  EXPECT_EQ(line["prompt_logprobs"]["tokens"], json({"What", " is"}));
  EXPECT_EQ(line["prompt_logprobs"]["token_logprobs"], json({-3.0, -4.0}));
  EXPECT_EQ(line["prompt_logprobs"]["top_logprobs"][0].size(), 2U);
}

TEST_F(AnswersTest, TheAnswerIsTheLikeliestOfTheChoices) {
  const std::vector<RowRequest> rows = read({{{"custom_id", "c"},
                                              {"prompt", "Is it?"},
                                              {"choices", {" yes", " no, it is not", " maybe"}},
                                              {"logprobs", 0},
                                              {"max_tokens", 1}}});
  ASSERT_EQ(rows.size(), 3U);
  const Ids prompt = tokenizer().encode("Is it?");
  for (const RowRequest& row : rows) {
    EXPECT_EQ(Ids(row.prompt.begin(), row.prompt.begin() + std::ssize(prompt)), prompt);
    EXPECT_EQ(row.max_new_tokens, 0);
    EXPECT_TRUE(row.score_prompt);
  }
  EXPECT_EQ(rows[1].prompt, tokenizer().encode("Is it? no, it is not")) << "as the tokenizer cuts both together";
  const auto run = [&](std::size_t i, float of_prompt, float of_choice) {
    const std::size_t num_choice = rows[i].prompt.size() - prompt.size();
    std::vector<float> scores(prompt.size() - 1, of_prompt);
    scores.insert(scores.end(), num_choice, of_choice / static_cast<float>(num_choice));
    tell_scores(rows[i].id, scores);
    return book_.finish(rows[i].id, FinishReason::length);
  };
  EXPECT_FALSE(run(0, -1, -3));
  EXPECT_FALSE(run(1, -9, -2));
  EXPECT_TRUE(run(2, 0, -4));
  const json line = results().at(0);
  EXPECT_EQ(line["text"], " no, it is not");
  EXPECT_EQ(line["finish_reason"], "stop");
  ASSERT_EQ(line["choice_logprobs"].size(), 3U);
  EXPECT_NEAR(line["choice_logprobs"][0].get<double>(), -3, 1e-5);
  EXPECT_NEAR(line["choice_logprobs"][1].get<double>(), -2, 1e-5);
  EXPECT_EQ(line["logprobs"]["tokens"].size(), rows[1].prompt.size() - prompt.size());
  EXPECT_EQ(line["usage"]["prompt_tokens"], prompt.size());
  EXPECT_EQ(line["usage"]["completion_tokens"], rows[1].prompt.size() - prompt.size());
}

TEST_F(AnswersTest, AChoiceThatJoinsThePromptIsCutByItself) {
  // " san" and "s" are tokens; "san" behind a prompt that ends with a space would be cut otherwise than they are alone.
  const std::vector<RowRequest> rows =
      read({{{"prompt", "the city is "}, {"choices", {"san"}}}, {{"prompt", {5, 6}}, {"choices", {" san"}}}});
  ASSERT_EQ(rows.size(), 2U);
  Ids joined = tokenizer().encode("the city is ");
  const Ids choice = plain_ids("san");
  ASSERT_NE(tokenizer().encode("the city is san"), [&] {
    Ids both = joined;
    both.insert(both.end(), choice.begin(), choice.end());
    return both;
  }());
  joined.insert(joined.end(), choice.begin(), choice.end());
  EXPECT_EQ(rows[0].prompt, joined);
  Ids ids{5, 6};
  const Ids own = plain_ids(" san");
  ids.insert(ids.end(), own.begin(), own.end());
  EXPECT_EQ(rows[1].prompt, ids);
}

TEST_F(AnswersTest, ChoicesMustFitBehindTheirPrompt) {
  const Ids many(2048 - plain_ids(" yes").size(), 7);
  read({{{"custom_id", "fits"}, {"prompt", many}, {"choices", {" yes"}}},
        {{"custom_id", "long"}, {"prompt", many}, {"choices", {" yes", " no, it is not"}}}});
  EXPECT_EQ(book_.counts().sequences, 1U);
  EXPECT_EQ(book_.shape().max_row_tokens, 2048);
  const json line = results().at(0);
  EXPECT_EQ(line["custom_id"], "long");
  EXPECT_NE(line["error"]["message"].get<std::string>().find("the longest of 'choices'"), std::string::npos);
  RowBook cut(tokenizer(), model_, writer_, ResultFormat{}, {PromptCut::left});
  read_rows(cut, {{{"prompt", many}, {"choices", {" yes", " no, it is not"}}}}, RequestDefaults{8});
  EXPECT_EQ(cut.num_cut(), 1U);
  EXPECT_EQ(cut.shape().max_row_tokens, 2048);
}

TEST_F(AnswersTest, APromptThatNothingFollowsTakesAllPositions) {
  const std::vector<RowRequest> rows = read({{{"prompt", Ids(2048, 7)}, {"echo", true}, {"max_tokens", 0}},
                                             {{"prompt", Ids(2049, 7)}, {"echo", true}, {"max_tokens", 0}}});
  EXPECT_EQ(rows.size(), 1U);
  EXPECT_EQ(book_.counts().failed_rows, 1U);
}

TEST_F(AnswersTest, AStopTokenIsNoText) {
  read({{{"prompt", "q"}, {"stop_token_ids", {300}}}});
  EXPECT_FALSE(book_.add_token(RowId(0), 200));
  EXPECT_FALSE(book_.add_token(RowId(0), 300)) << "the driver ends such a row itself";
  book_.finish(RowId(0), FinishReason::stop);
  EXPECT_EQ(results().at(0)["text"], text_of(200));
  EXPECT_EQ(results().at(0)["token_ids"], (Ids{200, 300}));
}

}  // namespace
}  // namespace flexgen::test
