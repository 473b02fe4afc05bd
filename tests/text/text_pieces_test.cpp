// The parts below the tokenizer: words, UTF-8, the byte alphabet.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/text/reference_data.hpp"
#include "text/byte_alphabet.hpp"
#include "text/pre_tokenizer.hpp"
#include "text/utf8.hpp"

namespace flexgen::test {
namespace {

std::vector<std::string> words(const PreTokenizer& pre_tokenizer, std::string_view text) {
  std::vector<std::string> result;
  pre_tokenizer.for_each_word(text, [&](std::string_view word) { result.emplace_back(word); });
  return result;
}

TEST(PreTokenizer, CutsAsThePattern) {
  const PreTokenizer pre_tokenizer;
  using Words = std::vector<std::string>;
  EXPECT_EQ(words(pre_tokenizer, ""), Words{});
  EXPECT_EQ(words(pre_tokenizer, "I'll pay  $3.50"), (Words{"I", "'ll", " pay", " ", " $", "3", ".", "50"}));
  EXPECT_EQ(words(pre_tokenizer, "a \n\n b  "), (Words{"a", " \n\n", " b", "  "}));
  EXPECT_EQ(words(pre_tokenizer, "a\n\nb"), (Words{"a", "\n", "\n", "b"}));
  EXPECT_EQ(words(pre_tokenizer, "a\u3000\u3000b"), (Words{"a", "\u3000", "\u3000", "b"}));
  EXPECT_EQ(words(pre_tokenizer, "a\u180Eb"), (Words{"a", "\u180E", "b"}));
  EXPECT_EQ(words(pre_tokenizer, " \u180E"), (Words{" \u180E"}));  // white space in PCRE2, not here
}

TEST(PreTokenizer, InterpretedPatternCutsTheSame) {
  const PreTokenizer compiled;
  const PreTokenizer interpreted(false);
  EXPECT_FALSE(interpreted.uses_jit());
  for (const auto& row : read_rows(data_dir / "corpus.jsonl")) {
    const auto text = row["text"].get<std::string>();
    const auto expected = words(compiled, text);
    EXPECT_EQ(words(interpreted, text), expected);
    std::string joined;
    for (const std::string& word : expected) joined += word;
    EXPECT_EQ(joined, text);
  }
}

TEST(PreTokenizer, LongRunsNeedNoStack) {
  std::string text;
  for (int i = 0; i < 400'000; ++i) text += "\u3000";
  for (int i = 0; i < 400'000; ++i) text += "\u4E00";
  for (const bool use_jit : {true, false}) {
    const auto result = words(PreTokenizer(use_jit), text);
    ASSERT_EQ(result.size(), 3u);
    EXPECT_EQ(result[0].size(), 3u * 399'999);
    EXPECT_EQ(result[2].size(), 3u * 400'000);
  }
}

TEST(ByteAlphabet, IsABijection) {
  std::string all;
  std::string symbols;
  for (int byte = 0; byte < 256; ++byte) {
    all.push_back(static_cast<char>(byte));
    symbols += byte_symbol(static_cast<std::uint8_t>(byte));
  }
  EXPECT_EQ(bytes_of_symbols(symbols), all);
  EXPECT_EQ(byte_symbol(' '), "Ġ");
  EXPECT_EQ(byte_symbol('\n'), "Ċ");
  EXPECT_EQ(byte_symbol(0xAD), "Ń");
  EXPECT_EQ(bytes_of_symbols("a b"), std::nullopt);
  EXPECT_EQ(bytes_of_symbols("\u4E00"), std::nullopt);
}

TEST(Utf8, FindsFirstInvalidByte) {
  EXPECT_EQ(first_invalid_utf8("plain \u00E9 \u4E00 \U0001F600 \U0010FFFF"), std::nullopt);
  EXPECT_EQ(first_invalid_utf8("a\x80"), 1u);
  EXPECT_EQ(first_invalid_utf8("\xE4\xB8"), 0u);
  EXPECT_EQ(first_invalid_utf8("\xF0\x8F\xBF\xBF"), 0u);  // overlong
  EXPECT_EQ(first_invalid_utf8("\xED\xBF\xBF"), 0u);      // surrogate
  EXPECT_EQ(first_invalid_utf8("\xF5\x80\x80\x80"), 0u);
}

TEST(Utf8, CodePointsThereAndBack) {
  for (char32_t code_point = 0; code_point < 0x110000; code_point += code_point < 0x900 ? 1 : 251) {
    if (code_point >= 0xD800 && code_point < 0xE000) continue;
    std::string text;
    append_utf8(text, code_point);
    EXPECT_EQ(first_invalid_utf8(text), std::nullopt);
    std::string_view rest = text;
    EXPECT_EQ(take_code_point(rest), code_point);
    EXPECT_TRUE(rest.empty());
  }
}

// Any cut into pieces gives the text of the whole; ill-formed subparts count as in Python's errors="replace".
TEST(Utf8, RepairDoesNotDependOnPieces) {
  const std::string replacement = "\uFFFD";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"a\xF0\x9F\x98\x80z", "a\U0001F600z"},
      {"\xF0\x9F\x98z", replacement + "z"},
      {"\xF0\x80\x80", replacement + replacement + replacement},
      {"\xE4\xB8\xE4\xB8\x80", replacement + "\u4E00"},
      {"\xED\xA0\x80", replacement + replacement + replacement},
      {"\xC3", replacement},
      {"\x80\xFF!", replacement + replacement + "!"},
  };
  for (const auto& [bytes, expected] : cases) {
    for (std::size_t piece_bytes = 1; piece_bytes <= bytes.size(); ++piece_bytes) {
      Utf8Repairer repairer;
      std::string text;
      for (std::size_t at = 0; at < bytes.size(); at += piece_bytes) repairer.push(bytes.substr(at, piece_bytes), text);
      repairer.finish(text);
      EXPECT_EQ(text, expected) << piece_bytes;
    }
  }
}

}  // namespace
}  // namespace flexgen::test
