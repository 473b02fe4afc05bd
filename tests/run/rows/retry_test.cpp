// Answers that are to match a pattern, and are asked for again where they do not.
#include <gtest/gtest.h>

#include <set>

#include "base/error.hpp"
#include "run/rows/row_book.hpp"
#include "tests/support/row_files.hpp"

namespace flexgen::test {
namespace {

using nlohmann::json;
using Ids = std::vector<std::int32_t>;

class RetryTest : public RowFilesTest {
 protected:
  static BookRules rules(const std::string& pattern, std::int32_t num_retries) {
    BookRules rules;
    rules.retry = {std::make_shared<const AnswerPattern>(pattern, "--retry-if-not"), num_retries};
    return rules;
  }

  void answer(RowBook& book, RowId id, const std::string& text) {
    for (const std::int32_t token : tokenizer().encode(text, false)) book.add_token(id, token);
    last_ = book.finish(id, FinishReason::length);
  }

  bool last_ = false;  // what finish said
};

TEST_F(RetryTest, AnAnswerThatDoesNotMatchComesAgainWithAnotherSeed) {
  RowBook book(tokenizer(), model_, writer_, ResultFormat{true, "", 0}, rules("^ *(Yes|No)$", 3));
  read_rows(book, {{{"custom_id", "a"}, {"prompt", "q"}, {"temperature", 1}, {"seed", 7}}}, {});
  std::set<std::uint64_t> seeds;
  for (const char* text : {" maybe", " who knows", " Yes"}) {
    EXPECT_EQ(book.num_left(), 1);
    const auto row = book.next_row();
    ASSERT_TRUE(row);
    EXPECT_FALSE(book.next_row());
    EXPECT_EQ(row->prompt, tokenizer().encode("q"));
    EXPECT_TRUE(seeds.insert(row->rules->sampling.seed).second);
    answer(book, row->id, text);
  }
  EXPECT_TRUE(last_);
  EXPECT_FALSE(book.next_row());
  EXPECT_TRUE(seeds.contains(7)) << "the first attempt is that of a job without retries";
  const json line = results().at(0);
  EXPECT_EQ(line.at("text"), " Yes");
  EXPECT_EQ(line.at("attempts"), 3);
  EXPECT_FALSE(line.contains("matched"));
  EXPECT_EQ(line.at("token_ids").size(), tokenizer().encode(" Yes", false).size());
  EXPECT_EQ(line.at("usage").at("completion_tokens"), book.counts().generated_tokens) << "all that were made";
}

TEST_F(RetryTest, TheLastAttemptCountsWhateverItSays) {
  RowBook book(tokenizer(), model_, writer_, {}, rules("never", 2));
  read_rows(book,
            {{{"custom_id", "b"},
              {"method", "POST"},
              {"url", "/v1/completions"},
              {"body", {{"prompt", "q"}, {"temperature", 1}, {"n", 2}}}}},
            {});
  int count = 0;
  while (const auto row = book.next_row()) {
    answer(book, row->id, " no");
    ++count;
  }
  EXPECT_EQ(count, 2 * 3);
  const json choices = results().at(0).at("response").at("body").at("choices");
  ASSERT_EQ(choices.size(), 2U);
  for (const json& choice : choices) {
    EXPECT_EQ(choice.at("attempts"), 3);
    EXPECT_EQ(choice.at("matched"), false);
  }
}

TEST_F(RetryTest, SeedsAreTheSameInAnotherJob) {
  EXPECT_EQ(attempt_seed(11, 0), 11U);
  EXPECT_EQ(attempt_seed(11, 1), attempt_seed(11, 1));
  EXPECT_NE(attempt_seed(11, 1), attempt_seed(11, 2));
  EXPECT_NE(attempt_seed(11, 1), attempt_seed(12, 1));
  EXPECT_EQ(attempt_seed(11, 1), 14569428193362617083u) << "a change of this changes jobs that are resumed";
}

TEST_F(RetryTest, ARowWithoutChanceIsRefusedAndOneOfGivenAnswersIsLeftAlone) {
  RowBook book(tokenizer(), model_, writer_, {}, rules("x", 2));
  read_rows(
      book,
      {{{"custom_id", "greedy"}, {"prompt", "q"}}, {{"custom_id", "given"}, {"prompt", "q"}, {"choices", {"a", "b"}}}},
      {});
  EXPECT_EQ(book.counts().failed_rows, 1U);
  EXPECT_EQ(book.num_left(), 2) << "both choices";
  const json line = results().at(0);
  EXPECT_EQ(line.at("custom_id"), "greedy");
  EXPECT_NE(line.at("error").at("message").get<std::string>().find("temperature"), std::string::npos) << line;
}

TEST(AnswerPattern, SearchesWithinBounds) {
  using Outcome = AnswerPattern::Outcome;
  const AnswerPattern word("^\\s*(Yes|No)\\b", "--retry-if-not");
  EXPECT_EQ(word.search(" Yes, it is"), Outcome::matched);
  EXPECT_EQ(word.search("Yesterday"), Outcome::not_matched);
  EXPECT_EQ(word.search(""), Outcome::not_matched);
  EXPECT_EQ(word.search("\xFF\xFE No"), Outcome::not_matched);
  EXPECT_EQ(AnswerPattern("(a+)+$", "x").search(std::string(5000, 'a') + "b"), Outcome::gone_astray);
  EXPECT_THROW(AnswerPattern("(", "--retry-if-not"), UserError);
}

TEST_F(RetryTest, AnAnswerComesAgainInItsOwnPass) {
  std::string rows;
  for (int i = 0; i < 12; ++i) {
    json row{{"custom_id", std::to_string(i)}, {"prompt", "q"}, {"temperature", 1}, {"seed", i}};
    if (i == 6) row["prompt_logprobs"] = 0;  // the window of four has no such row
    rows += row.dump() + "\n";
  }
  RequestReader reader(place_.write("passes.jsonl", rows), {});
  BookRules two = rules("Yes", 1);
  two.window.num_rows = 4;
  RowBook book(tokenizer(), model_, writer_, {}, two);
  book.read(reader);
  std::vector<std::pair<int, int>> runs;  // of each pass: those whose prompts are scored, and the others
  do {
    auto& [scored, plain] = runs.emplace_back();
    book.start();
    while (const auto row = book.next_row()) {
      ++(row->score_prompt ? scored : plain);
      if (row->score_prompt) book.add_scores(row->id, {std::vector<float>(row->prompt.size() - 1, -1.0F), 0, {}, {}});
      answer(book, row->id, " no");
    }
  } while (book.begin_pass());
  EXPECT_EQ(runs, (std::vector<std::pair<int, int>>{{0, 22}, {2, 0}}));
  EXPECT_EQ(results().size(), 12U);
}

}  // namespace
}  // namespace flexgen::test
