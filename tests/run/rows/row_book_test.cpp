// Rows in, results out, with the demo model's tokenizer and made-up tokens in place of the model's.
#include "run/rows/row_book.hpp"

#include <gtest/gtest.h>

#include "tests/support/row_files.hpp"

namespace flexgen::test {
namespace {

using nlohmann::json;
using Ids = std::vector<std::int32_t>;

class RowBookTest : public test::RowFilesTest {
 protected:
  static Ids plain_ids(const std::string& text) { return tokenizer().encode(text, false); }

  /// Has them read, and all that they give pulled.
  std::vector<RowRequest> read(const std::vector<json>& rows) {
    read_rows(book_, rows, RequestDefaults{8});
    return pull_all(book_);
  }

  /// Feeds tokens until the row stops or they are used up; whether it stopped by itself.
  bool feed(RowId id, const Ids& tokens) {
    for (const std::int32_t token : tokens)
      if (book_.add_token(id, token)) return true;
    return false;
  }

  RowBook book_{tokenizer(), model_, writer_, ResultFormat{true, "demo-model", 1700000000}};
};

TEST_F(RowBookTest, ARowGoesInAndOut) {
  const std::vector<RowRequest> rows =
      read({{{"custom_id", "a"}, {"prompt", "What is the city?"}, {"max_tokens", 5}}, {{"prompt", "name: x"}}});
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].id, RowId(0));
  EXPECT_EQ(rows[0].prompt, tokenizer().encode("What is the city?"));
  EXPECT_EQ(rows[0].max_new_tokens, 5);
  EXPECT_EQ(rows[1].max_new_tokens, 8) << "the default";
  EXPECT_TRUE(rows[0].stop_at_eos);
  EXPECT_EQ(book_.shape().num_rows, 2);
  EXPECT_EQ(book_.shape().max_prompt_tokens,
            static_cast<std::int32_t>(std::max(rows[0].prompt.size(), rows[1].prompt.size())));
  EXPECT_EQ(book_.shape().max_new_tokens, 8);
  EXPECT_EQ(book_.max_new_tokens(), 13U);
  EXPECT_EQ(book_.counts().prompt_tokens, rows[0].prompt.size() + rows[1].prompt.size());

  const Ids answer = plain_ids(" scottsdale");
  EXPECT_FALSE(feed(RowId(0), answer));
  EXPECT_TRUE(results().empty()) << "not finished yet";
  EXPECT_TRUE(book_.finish(RowId(0), FinishReason::length));
  ASSERT_EQ(results().size(), 1U) << "written as soon as it is finished";
  const json line = results()[0];
  EXPECT_EQ(line.at("custom_id"), "a");
  EXPECT_EQ(line.at("text"), " scottsdale");
  EXPECT_EQ(line.at("finish_reason"), "length");
  EXPECT_EQ(line.at("usage").at("prompt_tokens"), rows[0].prompt.size());
  EXPECT_EQ(line.at("usage").at("completion_tokens"), answer.size());
  EXPECT_EQ(line.at("token_ids"), json(answer));
  EXPECT_EQ(line.at("prompt_token_ids"), json(rows[0].prompt));
  EXPECT_EQ(book_.counts().generated_tokens, answer.size());
}

TEST_F(RowBookTest, AStopStringOverSeveralTokensEndsTheRowThere) {
  const std::string answer = " the answer is yes, and more";
  const Ids tokens = plain_ids(answer);
  ASSERT_GE(tokens.size(), 4U);
  // From the middle of one token into the next.
  const std::string first = tokenizer().decode(Ids(tokens.begin(), tokens.begin() + 2));
  const std::string stop = answer.substr(first.size() - 1, 2);
  const std::size_t at = answer.find(stop);
  read({{{"custom_id", "a"}, {"prompt", "q"}, {"stop", stop}}});
  std::size_t num_fed = 0;
  bool stopped = false;
  while (!stopped && num_fed < tokens.size()) stopped = book_.add_token(RowId(0), tokens[num_fed++]);
  ASSERT_TRUE(stopped);
  EXPECT_LE(num_fed, 3U);
  book_.finish(RowId(0), FinishReason::stop);
  const json line = results().at(0);
  EXPECT_EQ(line.at("text"), answer.substr(0, at));
  EXPECT_EQ(line.at("finish_reason"), "stop");
  EXPECT_EQ(line.at("token_ids").size(), num_fed);
}

TEST_F(RowBookTest, AStopStringInTheMiddleOfATokenIsCutOff) {
  read({{{"prompt", "q"}, {"stop", json::array({"zzz", "\n"})}}});
  EXPECT_TRUE(feed(RowId(0), plain_ids(" no\nname")));
  book_.finish(RowId(0), FinishReason::stop);
  EXPECT_EQ(results().at(0).at("text"), " no");
  EXPECT_EQ(results().at(0).at("finish_reason"), "stop");
}

TEST_F(RowBookTest, AStopStringOnTheLastTokenStillSaysStop) {
  read({{{"prompt", "q"}, {"stop", "."}}});
  EXPECT_TRUE(feed(RowId(0), plain_ids(" end.")));
  book_.finish(RowId(0), FinishReason::length);
  EXPECT_EQ(results().at(0).at("finish_reason"), "stop");
}

TEST_F(RowBookTest, TheEndOfSequenceTokenIsCountedButIsNoText) {
  read({{{"prompt", "q"}}});
  Ids tokens = plain_ids(" yes");
  tokens.push_back(model_.eos_tokens.front());
  EXPECT_FALSE(feed(RowId(0), tokens)) << "the driver ends such a row itself";
  book_.finish(RowId(0), FinishReason::stop);
  const json line = results().at(0);
  EXPECT_EQ(line.at("text"), " yes");
  EXPECT_EQ(line.at("finish_reason"), "stop");
  EXPECT_EQ(line.at("token_ids"), json(tokens));
  EXPECT_EQ(line.at("usage").at("completion_tokens"), tokens.size());
}

TEST_F(RowBookTest, HalfACharacterAtTheEndIsReplaced) {
  read({{{"prompt", "q"}}});
  Ids tokens = plain_ids(" \xF0\x9F\x98\x80");
  ASSERT_GE(tokens.size(), 2U) << "the demo vocabulary has no token for it";
  tokens.pop_back();
  feed(RowId(0), tokens);
  book_.finish(RowId(0), FinishReason::length);
  EXPECT_EQ(results().at(0).at("text"), " \xEF\xBF\xBD");
}

TEST_F(RowBookTest, AListOfPromptsIsOneResultWithItsChoicesInOrder) {
  const std::vector<RowRequest> rows = read({{{"custom_id", "list"}, {"prompt", json::array({"one", "two", "three"})}},
                                             {{"custom_id", "single"}, {"prompt", "four"}}});
  EXPECT_EQ(book_.counts().rows, 2U);
  EXPECT_EQ(book_.counts().sequences, 4U);
  EXPECT_EQ(rows.size(), 4U);
  EXPECT_EQ(book_.shape().num_rows, 4);
  feed(RowId(2), plain_ids(" C"));
  EXPECT_FALSE(book_.finish(RowId(2), FinishReason::length));
  feed(RowId(3), plain_ids(" D"));
  EXPECT_TRUE(book_.finish(RowId(3), FinishReason::length));
  feed(RowId(0), plain_ids(" A"));
  EXPECT_FALSE(book_.finish(RowId(0), FinishReason::length));
  feed(RowId(1), plain_ids(" B"));
  EXPECT_TRUE(book_.finish(RowId(1), FinishReason::stop));
  const std::vector<json> lines = results();
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0].at("custom_id"), "single");
  EXPECT_EQ(lines[1].at("custom_id"), "list");
  ASSERT_EQ(lines[1].at("choices").size(), 3U);
  EXPECT_EQ(lines[1].at("choices")[0].at("text"), " A");
  EXPECT_EQ(lines[1].at("choices")[1].at("text"), " B");
  EXPECT_EQ(lines[1].at("choices")[1].at("finish_reason"), "stop");
  EXPECT_EQ(lines[1].at("choices")[2].at("text"), " C");
  EXPECT_EQ(lines[1].at("choices")[2].at("index"), 2);
}

TEST_F(RowBookTest, IdsAreUsedAsTheyAre) {
  EXPECT_EQ(read({{{"prompt", json::array({2, 17, 4095})}}}).at(0).prompt, (Ids{2, 17, 4095}));
}

TEST_F(RowBookTest, BadRowsGetTheirErrorAtOnceAndTheGoodOnesRun) {
  std::string long_text;
  for (int i = 0; i < 2100; ++i) long_text += " yes";
  const std::vector<RowRequest> rows =
      read({{{"custom_id", "id-too-high"}, {"prompt", json::array({5, 4096})}},
            {{"custom_id", "good"}, {"prompt", "fine"}},
            {{"custom_id", "too-long"}, {"prompt", long_text}},
            {{"custom_id", "too-many-new"}, {"prompt", "x"}, {"max_tokens", 2048}},
            {{"custom_id", "one-of-list"}, {"prompt", json::array({json::array({1}), json::array({99999})})}},
            {{"custom_id", "biased"}, {"prompt", "x"}, {"logit_bias", {{"4096", 1}}}}});
  EXPECT_EQ(book_.counts().rows, 6U);
  EXPECT_EQ(book_.counts().failed_rows, 5U) << json(results()).dump();
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(book_.counts().sequences, 1U);
  EXPECT_LT(book_.shape().max_row_tokens, 100) << "a bad row does not count for the job's shape";
  const std::vector<json> lines = results();
  ASSERT_EQ(lines.size(), 5U) << json(lines).dump();
  const auto message = [&](std::size_t i) { return lines[i].at("error").at("message").get<std::string>(); };
  EXPECT_EQ(lines[0].at("custom_id"), "id-too-high");
  EXPECT_EQ(lines[0].at("error").at("code"), "invalid_prompt");
  EXPECT_NE(message(0).find("4096"), std::string::npos);
  EXPECT_EQ(lines[1].at("custom_id"), "too-long");
  EXPECT_NE(message(1).find("2048"), std::string::npos) << message(1);
  EXPECT_EQ(lines[2].at("custom_id"), "too-many-new");
  EXPECT_EQ(lines[3].at("custom_id"), "one-of-list");
  EXPECT_NE(message(3).find("99999"), std::string::npos);
  EXPECT_EQ(lines[4].at("custom_id"), "biased");
  EXPECT_EQ(lines[4].at("error").at("code"), "invalid_field");
  EXPECT_NE(message(4).find("4096"), std::string::npos) << message(4);
  feed(rows[0].id, plain_ids(" ok"));
  EXPECT_TRUE(book_.finish(rows[0].id, FinishReason::length));
  EXPECT_EQ(results().back().at("text"), " ok");
}

TEST_F(RowBookTest, ARowThatJustFitsRuns) {
  const std::size_t length = tokenizer().encode("x").size();
  const std::vector<RowRequest> rows =
      read({{{"prompt", "x"}, {"max_tokens", 2049 - length}}, {{"prompt", "x"}, {"max_tokens", 2050 - length}}});
  EXPECT_EQ(rows.size(), 1U);
  EXPECT_EQ(book_.counts().failed_rows, 1U);
  EXPECT_EQ(book_.shape().max_row_tokens, 2048);
}

TEST_F(RowBookTest, ARowWithoutMaxTokensGeneratesWhatFits) {
  const auto ids = [](std::size_t length) { return json(Ids(length, 7)); };
  const std::vector<RowRequest> rows = read({{{"prompt", ids(2045)}},
                                             {{"prompt", ids(2048)}},
                                             {{"prompt", ids(2049)}},
                                             {{"prompt", ids(2045)}, {"max_tokens", 8}}});
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].max_new_tokens, 4);
  EXPECT_EQ(rows[1].max_new_tokens, 1);
  EXPECT_EQ(book_.shape().max_row_tokens, 2048);
  EXPECT_EQ(book_.max_new_tokens(), 5U);
  EXPECT_EQ(book_.counts().failed_rows, 2U);
  feed(rows[0].id, plain_ids(" a"));
  book_.finish(rows[0].id, FinishReason::length);
  EXPECT_EQ(results().back().at("finish_reason"), "length");
}

TEST_F(RowBookTest, PromptsAreCutWhereThatIsAskedFor) {
  std::string text;
  for (int i = 0; i < 2100; ++i) text += i % 2 == 0 ? " yes" : " no";
  const Ids whole = tokenizer().encode(text);
  ASSERT_EQ(whole.front(), model_.bos_token);
  Ids many(3000);
  for (std::size_t i = 0; i < many.size(); ++i) many[i] = static_cast<std::int32_t>(i % 4096);
  for (const PromptCut cut : {PromptCut::left, PromptCut::right}) {
    const bool left = cut == PromptCut::left;
    RowBook book(tokenizer(), model_, writer_, ResultFormat{}, {cut});
    read_rows(book,
              {{{"custom_id", "text"}, {"prompt", text}, {"max_tokens", 9}},
               {{"custom_id", "ids"}, {"prompt", {many, many}}},
               {{"custom_id", "short"}, {"prompt", "x"}}},
              RequestDefaults{8});
    EXPECT_EQ(book.num_cut(), 2U);
    EXPECT_EQ(book.counts().failed_rows, 0U);
    const std::vector<RowRequest> rows = pull_all(book);
    ASSERT_EQ(rows.size(), 4U);
    Ids expected(whole.begin(), whole.begin() + 2040);
    if (left) std::copy(whole.end() - 2039, whole.end(), expected.begin() + 1);
    EXPECT_EQ(rows[0].prompt, expected);
    EXPECT_EQ(rows[0].max_new_tokens, 9);
    for (const std::size_t i : {1U, 2U})
      EXPECT_EQ(rows[i].prompt, left ? Ids(many.end() - 2041, many.end()) : Ids(many.begin(), many.begin() + 2041));
    EXPECT_EQ(book.shape().max_row_tokens, 2048);
    EXPECT_FALSE(book.finish(rows[1].id, FinishReason::length));
    EXPECT_TRUE(book.finish(rows[2].id, FinishReason::length));
    EXPECT_EQ(results().back().at("usage").at("prompt_tokens"), 2 * 2041);
  }
}

TEST_F(RowBookTest, ARowWithoutNumbersIsAnErrorInItsOwnForm) {
  read({{{"custom_id", "a"}, {"prompt", "q"}},
        {{"custom_id", "b"}, {"method", "POST"}, {"url", "/v1/completions"}, {"body", {{"prompt", "q"}}}},
        {{"custom_id", "c"}, {"prompt", "q"}}});
  feed(RowId(0), plain_ids(" one two"));
  EXPECT_TRUE(book_.finish(RowId(0), FinishReason::not_a_number));
  book_.set_dtype(DType::float16);
  EXPECT_TRUE(book_.finish(RowId(1), FinishReason::not_a_number));
  feed(RowId(2), plain_ids(" fine"));
  EXPECT_TRUE(book_.finish(RowId(2), FinishReason::length));
  EXPECT_EQ(book_.counts().failed_rows, 2U);
  const std::vector<json> lines = results();
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_EQ(lines[0].size(), 2U) << "no text that came to nothing: " << lines[0].dump();
  EXPECT_EQ(lines[0].at("custom_id"), "a");
  EXPECT_EQ(lines[0].at("error").at("code"), "not_a_number");
  const auto plain_message = lines[0].at("error").at("message").get<std::string>();
  EXPECT_NE(plain_message.find("token 3 of the answer"), std::string::npos) << plain_message;
  EXPECT_NE(plain_message.find("damaged"), std::string::npos) << plain_message;
  EXPECT_EQ(plain_message.find("Try"), std::string::npos) << "float32 does not overflow: " << plain_message;
  EXPECT_TRUE(lines[1].at("response").is_null());
  const auto batch_message = lines[1].at("error").at("message").get<std::string>();
  EXPECT_NE(batch_message.find("Try --dtype bfloat16 or float32"), std::string::npos) << batch_message;
  EXPECT_EQ(lines[2].at("text"), " fine");
}

TEST_F(RowBookTest, OnePromptWithoutNumbersFailsItsRowOnce) {
  read({{{"custom_id", "l"}, {"prompt", {"one", "two", "three", "four"}}}});
  feed(RowId(0), plain_ids(" A"));
  EXPECT_FALSE(book_.finish(RowId(0), FinishReason::length));
  EXPECT_TRUE(book_.finish(RowId(2), FinishReason::not_a_number));
  EXPECT_TRUE(book_.add_token(RowId(1), 17)) << "a row that has failed stops";
  EXPECT_FALSE(book_.finish(RowId(1), FinishReason::stop));
  EXPECT_FALSE(book_.finish(RowId(3), FinishReason::not_a_number));
  EXPECT_EQ(book_.counts().failed_rows, 1U);
  ASSERT_EQ(results().size(), 1U);
  EXPECT_NE(results()[0].at("error").at("message").get<std::string>().find("prompt[2]"), std::string::npos);
}

TEST_F(RowBookTest, RowsArePulledOneByOneInTheirOrder) {
  read_rows(book_, {{{"custom_id", "l"}, {"prompt", {"one", "two"}}, {"stop", "."}}, {{"prompt", "three"}}},
            RequestDefaults{8});
  EXPECT_EQ(book_.num_left(), 3);
  const RowRequest first = book_.next_row().value();
  EXPECT_EQ(book_.num_left(), 2);
  EXPECT_EQ(first.prompt, tokenizer().encode("one"));
  EXPECT_TRUE(book_.finish(first.id, FinishReason::not_a_number));
  const RowRequest second = book_.next_row().value();
  EXPECT_EQ(second.id, RowId(1));
  EXPECT_EQ(second.prompt, tokenizer().encode("two")) << "its row has failed, but it is a sequence like any";
  EXPECT_EQ(book_.next_row().value().prompt, tokenizer().encode("three"));
  EXPECT_EQ(book_.num_left(), 0);
  EXPECT_FALSE(book_.next_row().has_value());
}

TEST_F(RowBookTest, AnEmptyPromptRunsFromTheBeginningOfSequenceOrIsAnErrorOfItsRow) {
  const std::vector<RowRequest> rows = read({{{"custom_id", "empty"}, {"prompt", ""}}});
  if (tokenizer().encode("").empty()) {
    EXPECT_EQ(book_.counts().failed_rows, 1U);
  } else {
    ASSERT_EQ(rows.size(), 1U);
    EXPECT_EQ(rows[0].prompt, (Ids{model_.bos_token}));
  }
}

TEST_F(RowBookTest, NoRowsIsAJobOfNothing) {
  const std::vector<RowRequest> rows = read({});
  EXPECT_EQ(book_.counts().rows, 0U);
  EXPECT_TRUE(rows.empty());
}

TEST_F(RowBookTest, BatchRowsGetBatchResults) {
  read({{{"custom_id", "b"},
         {"method", "POST"},
         {"url", "/v1/completions"},
         {"body", {{"prompt", "q"}, {"max_tokens", 2}}}}});
  feed(RowId(0), plain_ids(" x"));
  book_.finish(RowId(0), FinishReason::length);
  const json line = results().at(0);
  EXPECT_EQ(line.at("custom_id"), "b");
  EXPECT_EQ(line.at("response").at("body").at("model"), "demo-model");
  EXPECT_EQ(line.at("response").at("body").at("created"), 1700000000);
  EXPECT_EQ(line.at("response").at("body").at("choices")[0].at("text"), " x");
}

}  // namespace
}  // namespace flexgen::test
