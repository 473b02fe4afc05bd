// What the files of a model directory may say, and what is refused.
#include <gtest/gtest.h>

#include "base/error.hpp"
#include "tests/text/reference_data.hpp"
#include "text/byte_alphabet.hpp"

namespace flexgen::test {
namespace {

using Ids = std::vector<std::int32_t>;

// A vocabulary of the 256 bytes (ids 4..259) behind OPT's four special tokens, and "ab" (260).
nlohmann::json small_vocabulary() {
  nlohmann::json vocabulary = {{"<s>", 0}, {"<pad>", 1}, {"</s>", 2}, {"<unk>", 3}};
  for (int byte = 0; byte < 256; ++byte)
    vocabulary[std::string(byte_symbol(static_cast<std::uint8_t>(byte)))] = 4 + byte;
  vocabulary["ab"] = 260;
  return vocabulary;
}
std::int32_t id_of(char byte) { return 4 + static_cast<std::uint8_t>(byte); }

class TokenizerFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    scratch_.write("vocab.json", small_vocabulary().dump());
    scratch_.write("merges.txt", "#version: 0.2\na b\n");
  }
  Tokenizer load() const { return Tokenizer::from_directory(scratch_.path()); }
  // Expects a refusal whose message has all the given parts.
  void expect_refused(const std::vector<std::string>& parts) const {
    try {
      load();
      ADD_FAILURE() << "accepted, though it should name: " << parts.at(0);
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::model);
      for (const std::string& part : parts) {
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what() << " lacks " << part;
      }
    }
  }
  ScratchPlace scratch_;
};

TEST_F(TokenizerFilesTest, WithoutConfigurationOptIsAssumed) {
  const Tokenizer tokenizer = load();
  EXPECT_EQ(tokenizer.encode("abc</s><pad>"), (Ids{2, 260, id_of('c'), 2, 1}));
  EXPECT_EQ(tokenizer.pad_id(), 1);
  EXPECT_EQ(tokenizer.encode("<s>", false), (Ids{id_of('<'), id_of('s'), id_of('>')}));
}

TEST_F(TokenizerFilesTest, VocabularyOfGpt2GetsNoBeginToken) {
  nlohmann::json vocabulary = small_vocabulary();
  for (const char* token : {"<s>", "<pad>", "</s>", "<unk>"}) vocabulary.erase(token);
  vocabulary["<|endoftext|>"] = 0;
  scratch_.write("vocab.json", vocabulary.dump());
  const Tokenizer tokenizer = load();
  EXPECT_EQ(tokenizer.encode("ab<|endoftext|>"), (Ids{260, 0}));
  EXPECT_EQ(tokenizer.eos_id(), 0);
  EXPECT_EQ(tokenizer.pad_id(), -1);
}

TEST_F(TokenizerFilesTest, ConfigurationDecidesAboutAddedTokens) {
  scratch_.write("tokenizer_config.json",
                 R"({"add_bos_token": false, "add_eos_token": true, "bos_token": "<s>", "eos_token": "</s>"})");
  EXPECT_EQ(load().encode("ab<s>"), (Ids{260, 0, 2}));
  EXPECT_EQ(load().bos_id(), 0);
  EXPECT_EQ(load().encode("ab<s>", false), (Ids{260, 0}));
}

TEST_F(TokenizerFilesTest, UnnamedTokenIsPlainText) {
  scratch_.write("tokenizer_config.json", R"({"bos_token": "</s>", "eos_token": "</s>"})");
  EXPECT_EQ(load().pad_id(), -1);
  EXPECT_EQ(load().encode("<pad></s>"), (Ids{2, id_of('<'), id_of('p'), id_of('a'), id_of('d'), id_of('>'), 2}));
}

TEST_F(TokenizerFilesTest, SpecialTokensMapWinsOverConfiguration) {
  scratch_.write("tokenizer_config.json", R"({"add_bos_token": true, "bos_token": "<s>", "pad_token": null})");
  scratch_.write("special_tokens_map.json", R"({"bos_token": {"content": "</s>", "normalized": true}})");
  const Tokenizer tokenizer = load();
  EXPECT_EQ(tokenizer.encode("ab"), (Ids{2, 260}));
  EXPECT_EQ(tokenizer.pad_id(), -1);
  EXPECT_EQ(tokenizer.encode("<pad>", false).size(), 5u);
}

TEST_F(TokenizerFilesTest, AddedTokensDecoderKeepsMapAway) {
  scratch_.write("special_tokens_map.json", R"({"bos_token": "<unk>"})");
  scratch_.write("tokenizer_config.json", R"({"bos_token": "</s>", "added_tokens_decoder": {
    "261": {"content": "<tool>", "special": false, "lstrip": true, "rstrip": true},
    "262": {"content": "<secret>", "special": true}}})");
  const Tokenizer tokenizer = load();
  EXPECT_EQ(tokenizer.vocab_size(), 263);
  EXPECT_EQ(tokenizer.encode("ab \xE3\x80\x80<tool> \n<secret> ab"), (Ids{2, 260, 261, 262, id_of(' '), 260}));
  EXPECT_EQ(tokenizer.decode(Ids{2, 260, 261, 262}), "ab<tool>");
  EXPECT_EQ(tokenizer.decode(Ids{2, 260, 261, 262}, false), "</s>ab<tool><secret>");
}

TEST_F(TokenizerFilesTest, LongestAddedTokenWins) {
  scratch_.write("added_tokens.json", R"({"<x>": 261, "<x><y>": 262})");
  EXPECT_EQ(load().encode("<x><y><x>", false), (Ids{262, 261}));
  EXPECT_EQ(load().decode(Ids{262, 261}), "<x><y><x>");
}

TEST_F(TokenizerFilesTest, PrefixSpace) {
  scratch_.write("tokenizer_config.json", R"({"add_prefix_space": true, "add_bos_token": false, "eos_token": "</s>"})");
  EXPECT_EQ(load().encode("ab</s> ab"), (Ids{id_of(' '), 260, 2, id_of(' '), 260}));
}

TEST_F(TokenizerFilesTest, CarriageReturnsInMergesAreTolerated) {
  scratch_.write("merges.txt", "#version: 0.2\r\na b\r\n\r\n");
  EXPECT_EQ(load().encode("ab", false), Ids{260});
}

TEST_F(TokenizerFilesTest, RefusesMalformedVocabulary) {
  scratch_.write("vocab.json", "{\"a\": 1,\n \"b\" 2}");
  expect_refused({"vocab.json", "line 2"});
  scratch_.write("vocab.json", "[]");
  expect_refused({"vocab.json", "object"});
  scratch_.write("vocab.json", "{}");
  expect_refused({"vocab.json", "empty"});
  scratch_.write("vocab.json", R"({"a": "1"})");
  expect_refused({"vocab.json", "\"a\"", "integer"});
  scratch_.write("vocab.json", R"({"a": -1})");
  expect_refused({"vocab.json", "-1", "range"});
  scratch_.write("vocab.json", R"({"a": 99999999999})");
  expect_refused({"vocab.json", "99999999999", "range"});
  scratch_.write("vocab.json", R"({"a": 1, "b": 1})");
  expect_refused({"vocab.json", "same id 1"});
  scratch_.write("vocab.json", R"({"a": 1})");
  expect_refused({"vocab.json", "byte 0x00"});
}

TEST_F(TokenizerFilesTest, RefusesMalformedMerges) {
  for (const char* line : {"a", "a b c", " a b", "a ", "a  b", ""}) {
    scratch_.write("merges.txt", "#version: 0.2\na b\n" + std::string(line) + "\na b\n");
    expect_refused({"merges.txt", "line 3"});
  }
  scratch_.write("merges.txt", "a b\nb c\n");
  expect_refused({"merges.txt", "line 2", "\"bc\""});
}

TEST_F(TokenizerFilesTest, RefusesMalformedConfiguration) {
  scratch_.write("tokenizer_config.json", R"({"tokenizer_class": "LlamaTokenizer"})");
  expect_refused({"tokenizer_config.json", "LlamaTokenizer"});
  scratch_.write("tokenizer_config.json", R"({"add_bos_token": "yes"})");
  expect_refused({"tokenizer_config.json", "add_bos_token"});
  scratch_.write("tokenizer_config.json", R"({"bos_token": 7})");
  expect_refused({"tokenizer_config.json", "bos_token"});
  scratch_.write("tokenizer_config.json", R"({"added_tokens_decoder": {"x": {"content": "<x>"}}})");
  expect_refused({"tokenizer_config.json", "\"x\""});
  scratch_.write("tokenizer_config.json", "{}");
  scratch_.write("special_tokens_map.json", "{");
  expect_refused({"special_tokens_map.json"});
  scratch_.write("special_tokens_map.json", "{}");
  scratch_.write("added_tokens.json", R"({"<x>": 5})");
  expect_refused({"added_tokens.json", "same id 5"});
}

TEST(TokenizerFiles, MissingFilesAreNamed) {
  const auto message = [](const std::filesystem::path& path) -> std::string {
    try {
      Tokenizer::from_directory(path);
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::model);
      return error.what();
    }
    return "accepted";
  };
  ScratchPlace scratch;
  EXPECT_NE(message(scratch.path() / "absent").find("no such directory"), std::string::npos);
  EXPECT_NE(message(scratch.path()).find("vocab.json"), std::string::npos);
  scratch.write("tokenizer.json", "{}");
  EXPECT_NE(message(scratch.path()).find("\"model\""), std::string::npos);
  std::filesystem::remove(scratch.path() / "tokenizer.json");
  add_opt_vocabulary(scratch);
  EXPECT_EQ(message(scratch.path()), "accepted");
  std::filesystem::remove(scratch.path() / "merges.txt");
  EXPECT_NE(message(scratch.path()).find("merges.txt"), std::string::npos);
}

}  // namespace
}  // namespace flexgen::test
