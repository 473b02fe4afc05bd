// Texts in, scores out, with the demo model's tokenizer and made-up scores in place of the model's.
#include "run/rows/score_book.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "base/error.hpp"
#include "run/model/model_text.hpp"
#include "tests/support/row_files.hpp"

namespace flexgen::test {
namespace {

using nlohmann::json;
using Ids = std::vector<std::int32_t>;

class ScoreBookTest : public test::RowFilesTest {
 protected:
  ScoreBook book(ScoreRules rules = {8, 7, 0, true}) { return {tokenizer(), model_, &writer_, rules}; }

  void read(ScoreBook& book, const std::vector<json>& rows) { read_rows(book, rows, RequestDefaults{0, true}); }

  // The score of a token is minus its id.
  static bool run(ScoreBook& book, const RowRequest& window) {
    std::vector<float> scores;
    for (std::size_t i = 1; i < window.prompt.size(); ++i) scores.push_back(-static_cast<float>(window.prompt[i]));
    book.add_scores(window.id, scores);
    return book.finish(window.id);
  }
};

TEST_F(ScoreBookTest, ARowGoesInAndOut) {
  ScoreBook one = book();
  read(one, {{{"custom_id", "a"}, {"prompt", {2, 3, 4}}, {"max_tokens", 0}, {"stop", "x"}}});
  const std::vector<RowRequest> windows = pull_all(one);
  ASSERT_EQ(windows.size(), 1U);
  EXPECT_EQ(windows[0].prompt, (Ids{2, 3, 4}));
  EXPECT_EQ(windows[0].max_new_tokens, 0);
  EXPECT_TRUE(windows[0].score_prompt);
  EXPECT_TRUE(one.shape().scores);
  EXPECT_EQ(one.shape().max_row_tokens, 3);
  EXPECT_TRUE(run(one, windows[0]));
  const json row = results().at(0);
  EXPECT_EQ(row["custom_id"], "a");
  EXPECT_EQ(row["token_ids"], (Ids{2, 3, 4}));
  EXPECT_EQ(row["token_logprobs"], json({nullptr, -3.0, -4.0}));
  EXPECT_EQ(row["sum"], -7.0);
  EXPECT_EQ(row["count"], 2);
  EXPECT_NEAR(row["perplexity"].get<double>(), std::exp(3.5), 1e-9);
  EXPECT_EQ(one.totals().tokens, 2U);
  EXPECT_EQ(one.totals().log_probability, -7.0);
}

TEST_F(ScoreBookTest, TextIsEncodedWithItsFirstToken) {
  ScoreBook texts = book({512, 511, 0, false});
  read(texts, {{{"text", "What is the city?"}}, {{"prompt", "What is the city?"}}});
  const std::vector<RowRequest> windows = pull_all(texts);
  ASSERT_EQ(windows.size(), 2U);
  EXPECT_EQ(windows[0].prompt, tokenizer().encode("What is the city?"));
  EXPECT_EQ(windows[0].prompt[0], tokenizer().bos_id());
  EXPECT_EQ(windows[1].prompt, windows[0].prompt);
  run(texts, windows[1]);
  EXPECT_FALSE(results().at(0).contains("token_ids"));
}

TEST_F(ScoreBookTest, WindowsFinishedInAnyOrderGiveOneRow) {
  Ids ids;
  json expected{nullptr};
  for (int i = 0; i < 20; ++i) ids.push_back(100 + i);
  for (int i = 1; i < 20; ++i) expected.push_back(-100.0 - i);
  for (const std::int32_t stride : {7, 3, 1}) {
    ScoreBook one = book({8, stride, 0, false});
    const std::uint64_t before = one.totals().tokens;  // what the writer has from the books before
    read(one, {{{"custom_id", std::to_string(stride)}, {"prompt", ids}}});
    const std::vector<RowRequest> windows = pull_all(one);
    ASSERT_GE(windows.size(), 3U);
    for (std::size_t i = windows.size(); i-- > 0;) EXPECT_EQ(run(one, windows[i]), i == 0);
    EXPECT_EQ(results().back()["token_logprobs"], expected);
    EXPECT_EQ(one.counts().to_score, 19U);
    EXPECT_EQ(one.totals().tokens - before, 19U);
  }
}

TEST_F(ScoreBookTest, OnlyTheFirstPredictionsWhereSoManyAreWanted) {
  ScoreBook one = book({4, 3, 5, true});
  read(one, {{{"prompt", {10, 11, 12, 13, 14, 15, 16, 17, 18, 19}}}});
  for (const RowRequest& window : pull_all(one)) run(one, window);
  EXPECT_EQ(results().at(0)["token_logprobs"], json({nullptr, -11.0, -12.0, -13.0, -14.0, -15.0}));
  EXPECT_EQ(results().at(0)["token_ids"].size(), 10U);
}

TEST_F(ScoreBookTest, ABadRowCostsItselfAlone) {
  ScoreBook rows = book();
  read(rows, {{{"custom_id", "id"}, {"prompt", {2, 999999}}},
              {{"custom_id", "none"}},
              {{"custom_id", "both"}, {"prompt", "a"}, {"text", "b"}},
              {{"custom_id", "batch"}, {"method", "POST"}, {"url", "/v1/completions"}, {"body", {{"prompt", "a"}}}},
              {{"custom_id", "one"}, {"prompt", {2}}},
              {{"custom_id", "good"}, {"prompt", {2, 3}}}});
  EXPECT_EQ(rows.counts().rows, 6U);
  EXPECT_EQ(rows.num_failed(), 4U);
  const std::vector<RowRequest> windows = pull_all(rows);
  ASSERT_EQ(windows.size(), 1U);
  run(rows, windows[0]);
  std::map<std::string, json> by_id;
  for (const json& row : results()) EXPECT_TRUE(by_id.emplace(row["custom_id"], row).second);
  ASSERT_EQ(by_id.size(), 6U);
  EXPECT_EQ(by_id["id"]["error"]["code"], "invalid_prompt");
  EXPECT_EQ(by_id["none"]["error"]["code"], "missing_field");
  EXPECT_EQ(by_id["both"]["error"]["code"], "invalid_field");
  EXPECT_EQ(by_id["batch"]["error"]["code"], "unsupported_url");
  EXPECT_EQ(by_id["one"]["count"], 0);  // a single token has nothing before it
  EXPECT_EQ(by_id["one"]["token_logprobs"], json({nullptr}));
  EXPECT_TRUE(by_id["one"]["perplexity"].is_null());
  EXPECT_EQ(by_id["good"]["count"], 1);
}

TEST_F(ScoreBookTest, AListOfTextsIsOneRow) {
  ScoreBook one = book();
  read(one, {{{"custom_id", "l"}, {"prompt", {{2, 3}, {2}, {2, 5, 6}}}}});
  const std::vector<RowRequest> windows = pull_all(one);
  ASSERT_EQ(windows.size(), 2U);
  EXPECT_FALSE(run(one, windows[1]));
  EXPECT_TRUE(run(one, windows[0]));
  const json choices = results().at(0)["choices"];
  ASSERT_EQ(choices.size(), 3U);
  EXPECT_EQ(choices[0]["sum"], -3.0);
  EXPECT_EQ(choices[1]["count"], 0);
  EXPECT_EQ(choices[2]["index"], 2);
  EXPECT_EQ(choices[2]["sum"], -11.0);
}

TEST_F(ScoreBookTest, ATextWithoutNumbersFailsItsRowAndCountsNowhere) {
  ScoreBook one = book({4, 3, 0, false});
  read(one, {{{"custom_id", "long"}, {"prompt", {2, 3, 4, 5, 6, 7, 8, 9, 10, 11}}},
             {{"custom_id", "good"}, {"prompt", {2, 3}}}});
  const std::vector<RowRequest> windows = pull_all(one);
  ASSERT_EQ(windows.size(), 4U);
  EXPECT_FALSE(run(one, windows[0]));
  EXPECT_TRUE(one.fail(windows[1].id));
  EXPECT_EQ(one.add_scores(windows[2].id, std::vector<float>(windows[2].prompt.size() - 1, -1.0F)), 0U);
  EXPECT_FALSE(one.finish(windows[2].id));
  EXPECT_TRUE(run(one, windows[3]));
  EXPECT_EQ(one.num_failed(), 1U);
  EXPECT_EQ(one.totals().tokens, 1U) << "of the good row alone";
  EXPECT_EQ(one.totals().log_probability, -3.0);
  const std::vector<json> lines = results();
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0].at("custom_id"), "long");
  EXPECT_EQ(lines[0].at("error").at("code"), "not_a_number");
  EXPECT_NE(lines[0].at("error").at("message").get<std::string>().find("among tokens 4 .. 7"), std::string::npos);
  EXPECT_EQ(lines[1].at("sum"), -3.0);
}

TEST_F(ScoreBookTest, WindowsArePulledOneByOneInTheirOrder) {
  ScoreBook one = book({4, 3, 0, false});
  read(one, {{{"prompt", {10, 11, 12, 13, 14, 15}}}, {{"prompt", {20, 21}}}});
  EXPECT_EQ(one.num_left(), 3);
  const RowRequest first = one.next_row().value();
  EXPECT_EQ(first.prompt, (Ids{10, 11, 12, 13}));
  EXPECT_TRUE(one.fail(first.id));
  EXPECT_EQ(one.next_row().value().prompt, (Ids{13, 14, 15})) << "its row has failed, but it is a window like any";
  EXPECT_EQ(one.num_left(), 1);
  EXPECT_EQ(one.next_row().value().prompt, (Ids{20, 21}));
  EXPECT_FALSE(one.next_row().has_value());
}

TEST_F(ScoreBookTest, TheLastDigitIsNoNoise) {
  ScoreBook one = book();
  read(one, {{{"prompt", {2, 3, 4}}}});
  const std::vector<RowRequest> windows = pull_all(one);
  one.add_scores(windows[0].id, std::vector<float>{-1.7534353F, -4e-9F});
  one.finish(windows[0].id);
  writer_.finish();
  std::ifstream output(place_ / "out.jsonl");
  std::string line;
  std::getline(output, line);
  EXPECT_NE(line.find("[null,-1.7534353,0.0]"), std::string::npos) << line;
}

TEST(ModelText, WhiteSpaceCollapses) {
  EXPECT_EQ(collapse_whitespace("  a\t\n b\xC2\xA0\xE2\x80\xA8"
                                "c  "),
            "a b c");
  EXPECT_EQ(collapse_whitespace("\xC3\xA4 \x1C \xE2\x82\xAC"), "\xC3\xA4 \xE2\x82\xAC");
  EXPECT_EQ(collapse_whitespace(" \n"), "");
  EXPECT_EQ(collapse_whitespace(""), "");
}

TEST(ModelText, AFileIsReadWithoutItsMark) {
  const test::ScratchPlace place;
  std::ofstream(place / "t") << "\xEF\xBB\xBF"
                             << "a\n b";
  EXPECT_EQ(read_text(place / "t"), "a\n b");
  std::ofstream(place / "bad") << "ab\xFF";
  EXPECT_THROW(read_text(place / "bad"), UserError);
  EXPECT_THROW(read_text(place / "absent"), UserError);
  EXPECT_THROW(read_text(place / "."), UserError);
}

}  // namespace
}  // namespace flexgen::test
