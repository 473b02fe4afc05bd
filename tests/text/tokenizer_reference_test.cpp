// Ids and texts equal those of the reference tokenizer, which tests/data/make_tokenizer_reference.py has recorded.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "base/error.hpp"
#include "tests/support/sanitized.hpp"
#include "tests/text/reference_data.hpp"

namespace flexgen::test {
namespace {

using Ids = std::vector<std::int32_t>;

const std::vector<nlohmann::json>& corpus() {
  static const auto rows = read_rows(data_dir / "corpus.jsonl");
  return rows;
}

class TokenizerReference : public testing::TestWithParam<const char*> {
 protected:
  const Tokenizer& tokenizer_ = tokenizer(GetParam());
};
INSTANTIATE_TEST_SUITE_P(Vocabularies, TokenizerReference, testing::Values("opt", "demo"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(TokenizerReference, IdsEqualOnHardCorpus) {
  ASSERT_GT(corpus().size(), 600u);
  for (const auto& row : corpus()) {
    const auto text = row["text"].get<std::string>();
    const auto expected = row[GetParam()].get<Ids>();
    EXPECT_EQ(tokenizer_.encode(text, false), expected) << row["text"].dump(-1, ' ', true);
    EXPECT_EQ(tokenizer_.encode(text, false), expected) << "from the cache: " << row["text"].dump(-1, ' ', true);
  }
}

TEST_P(TokenizerReference, BeginTokenComesFirst) {
  for (const auto& row : corpus()) {
    Ids expected = row[GetParam()].get<Ids>();
    expected.insert(expected.begin(), 2);
    EXPECT_EQ(tokenizer_.encode(row["text"].get<std::string>()), expected);
  }
}

TEST_P(TokenizerReference, TextSurvivesRoundTrip) {
  for (const auto& row : corpus()) {
    const auto text = row["text"].get<std::string>();
    EXPECT_EQ(tokenizer_.decode(tokenizer_.encode(text, false), false), text);
  }
}

TEST_P(TokenizerReference, DecodedTextEquals) {
  int num_rows = 0;
  for (const auto& row : read_rows(data_dir / "decode.jsonl")) {
    if (row["vocab"] != GetParam()) continue;
    ++num_rows;
    const auto ids = row["ids"].get<Ids>();
    EXPECT_EQ(tokenizer_.decode(ids, false), row["text"].get<std::string>()) << row["ids"];
    EXPECT_EQ(tokenizer_.decode(ids), row["skipped"].get<std::string>()) << row["ids"];
  }
  EXPECT_GT(num_rows, 300);
}

TEST_P(TokenizerReference, StreamedTextEqualsWhole) {
  for (const auto& row : read_rows(data_dir / "decode.jsonl")) {
    if (row["vocab"] != GetParam()) continue;
    for (const bool skip_special : {false, true}) {
      StreamingDecoder decoder(tokenizer_, skip_special);
      std::string streamed;
      for (std::int32_t id : row["ids"].get<Ids>()) {
        const std::string piece = decoder.push(id);
        EXPECT_FALSE(first_invalid_utf8(piece).has_value()) << row["ids"];
        streamed += piece;
      }
      streamed += decoder.finish();
      EXPECT_EQ(streamed, row[skip_special ? "skipped" : "text"].get<std::string>()) << row["ids"];
    }
  }
}

TEST_P(TokenizerReference, ThreadsGetTheSameIds) {
  const Tokenizer fresh = Tokenizer::from_directory(
      std::string_view(GetParam()) == "opt" ? data_dir / "opt" : source_dir / "configs/demo-model");
  std::atomic<int> num_wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (const auto& row : corpus()) {
        if (fresh.encode(row["text"].get<std::string>(), false) != row[GetParam()].get<Ids>()) ++num_wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(num_wrong, 0);
}

TEST(Tokenizer, KnownIdsOfOpt) {
  const Tokenizer& opt = tokenizer("opt");
  EXPECT_EQ(opt.encode("A photo of a cat"), (Ids{2, 250, 1345, 9, 10, 4758}));
  EXPECT_EQ(opt.encode("\n", false), Ids{50118});
  EXPECT_EQ(opt.encode(""), Ids{2});
  EXPECT_EQ(opt.vocab_size(), 50265);
  EXPECT_EQ(opt.bos_id(), 2);
  EXPECT_EQ(opt.eos_id(), 2);
  EXPECT_EQ(opt.pad_id(), 1);
  EXPECT_EQ(opt.token_bytes(250), "A");
  EXPECT_EQ(opt.token_bytes(4758), " cat");
  EXPECT_EQ(opt.token_bytes(50118), "\n");
  EXPECT_EQ(tokenizer("demo").vocab_size(), 4096);
}

TEST(Tokenizer, UnknownIdsGiveNothing) {
  const Tokenizer& opt = tokenizer("opt");
  EXPECT_EQ(opt.decode(Ids{-1, 250, 50265, 50271, 1 << 30, 4758}), "A cat");
  EXPECT_EQ(opt.token_bytes(-1), "");
  EXPECT_EQ(opt.token_bytes(50265), "");
}

TEST(Tokenizer, InvalidUtf8IsAnErrorOfTheRow) {
  for (const std::string text :
       {"ab\xFFz", "\xC3", "\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE2\x82", "\x80"}) {
    try {
      tokenizer("opt").encode(text);
      ADD_FAILURE() << "accepted: " << testing::PrintToString(text);
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::rows_failed);
      EXPECT_NE(std::string(error.what()).find("UTF-8"), std::string::npos);
    }
  }
}

TEST(Tokenizer, LongWordsAreFast) {
  constexpr double max_seconds = is_sanitized ? 20 : 1;
  constexpr std::size_t num_bytes = 100'000;
  std::string varied;
  for (std::size_t i = 0; varied.size() < num_bytes; ++i) varied += static_cast<char>('a' + i * i % 23);
  for (const std::string& text : {std::string(num_bytes, 'a'), std::string(num_bytes, ' '),
                                  std::string(num_bytes, '\n') + "x", varied, std::string(num_bytes, '=')}) {
    const auto begin = std::chrono::steady_clock::now();
    const Ids ids = tokenizer("opt").encode(text, false);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    EXPECT_LT(seconds.count(), max_seconds) << text.substr(0, 10);
    EXPECT_EQ(tokenizer("opt").decode(ids), text);
  }
}

}  // namespace
}  // namespace flexgen::test
