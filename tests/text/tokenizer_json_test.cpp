// Tokenizers that are in tokenizer.json: the same ids as from other files, Galactica's words, NFKC, and what is
// refused.
#include <gtest/gtest.h>

#include "base/error.hpp"
#include "tests/text/reference_data.hpp"
#include "text/byte_alphabet.hpp"
#include "text/nfkc.hpp"
#include "text/word_splitter.hpp"

namespace flexgen::test {
namespace {

using nlohmann::json;
using Ids = std::vector<std::int32_t>;
using Texts = std::vector<std::string>;

json read_json(const std::filesystem::path& file) {
  std::ifstream stream(file);
  return json::parse(stream);
}

json special(const char* content, int id, bool is_special = true, bool normalized = false) {
  return {{"id", id},        {"content", content},    {"single_word", false},    {"lstrip", false},
          {"rstrip", false}, {"special", is_special}, {"normalized", normalized}};
}

const json byte_level = {
    {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};

// OPT's vocabulary as a model of tokenizer.json; merges as "a b" or as ["a", "b"].
json opt_model(bool pairs) {
  json merges = json::array();
  std::ifstream lines(data_dir / "opt" / "merges.txt");
  std::string line;
  std::getline(lines, line);
  while (std::getline(lines, line)) {
    const std::size_t space = line.find(' ');
    if (pairs) merges.push_back({line.substr(0, space), line.substr(space + 1)});
    else merges.push_back(line);
  }
  return {{"type", "BPE"}, {"vocab", read_json(data_dir / "opt" / "vocab.json")}, {"merges", merges}};
}

// What transformers 5 saves of OPT's tokenizer.
json opt_file(bool pairs) {
  const json a = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const json begin = {{"SpecialToken", {{"id", "</s>"}, {"type_id", 0}}}};
  return {{"added_tokens", {special("<pad>", 1), special("</s>", 2)}},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor",
           {{"type", "TemplateProcessing"},
            {"single", {begin, a}},
            {"special_tokens", {{"</s>", {{"id", "</s>"}, {"ids", {2}}, {"tokens", {"</s>"}}}}}}}},
          {"decoder", byte_level},
          {"model", opt_model(pairs)}};
}

constexpr const char* saved_config =
    R"({"tokenizer_class": "GPT2Tokenizer", "bos_token": "</s>", "eos_token": "</s>", "pad_token": "<pad>"})";

TEST(TokenizerJson, GivesTheIdsOfVocabAndMerges) {
  for (const bool pairs : {false, true}) {
    const ScratchPlace scratch;
    scratch.write("tokenizer.json", opt_file(pairs).dump());
    scratch.write("tokenizer_config.json", saved_config);
    const Tokenizer whole = Tokenizer::from_directory(scratch.path());
    for (const json& row : read_rows(data_dir / "corpus.jsonl")) {
      Ids expected{2};
      for (const json& id : row["opt"]) expected.push_back(id.get<std::int32_t>());
      ASSERT_EQ(whole.encode(row["text"].get<std::string>()), expected) << row["text"];
    }
    EXPECT_EQ(whole.pad_id(), 1);
  }
}

TEST(TokenizerJson, GalacticasWords) {
  json file = read_json(data_dir / "galactica_parts.json");
  file["model"] = opt_model(false);
  const ScratchPlace scratch;
  scratch.write("tokenizer.json", file.dump());
  scratch.write("tokenizer_config.json", R"({"tokenizer_class": "PreTrainedTokenizerFast"})");
  const Tokenizer galactica = Tokenizer::from_directory(scratch.path());
  const std::vector<json> rows = read_rows(data_dir / "galactica.jsonl");
  EXPECT_GT(rows.size(), 250U);
  for (const json& row : rows)
    ASSERT_EQ(galactica.encode(row["text"].get<std::string>()), row["ids"].get<Ids>()) << row["text"];
}

TEST(Nfkc, EqualsTheReference) {
  const std::vector<json> rows = read_rows(data_dir / "nfkc.jsonl");
  EXPECT_GT(rows.size(), 300U);
  for (const json& row : rows)
    ASSERT_EQ(to_nfkc(row["text"].get<std::string>()), row["nfkc"].get<std::string>()) << row["text"];
  EXPECT_EQ(to_nfkc("plain"), "plain");
  EXPECT_EQ(to_nfkc("\xED\x95\x9C"), "\xED\x95\x9C") << "Hangul is taken apart and put together again";
  EXPECT_EQ(to_nfkc("\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB"), "\xED\x95\x9C");
}

// A vocabulary of the 256 bytes (ids 4..259) behind OPT's four special tokens, and "ab" (260).
class SmallTokenizerJson : public testing::Test {
 protected:
  SmallTokenizerJson() {
    json vocabulary = {{"<s>", 0}, {"<pad>", 1}, {"</s>", 2}, {"<unk>", 3}, {"ab", 260}};
    for (int byte = 0; byte < 256; ++byte)
      vocabulary[std::string(byte_symbol(static_cast<std::uint8_t>(byte)))] = 4 + byte;
    file_ = {{"added_tokens", json::array({special("</s>", 2)})},
             {"pre_tokenizer", byte_level},
             {"decoder", byte_level},
             {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", {"a b"}}}}};
  }
  static std::int32_t id_of(char byte) { return 4 + static_cast<std::uint8_t>(byte); }
  Tokenizer load(const char* tokenizer_class = "PreTrainedTokenizerFast") {
    scratch_.write("tokenizer.json", file_.dump());
    if (tokenizer_class) scratch_.write("tokenizer_config.json", json{{"tokenizer_class", tokenizer_class}}.dump());
    return Tokenizer::from_directory(scratch_.path());
  }
  void expect_refused(const Texts& parts) {
    try {
      load();
      ADD_FAILURE() << "accepted, though it should name: " << parts.at(0);
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::model);
      for (const std::string& part : parts)
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what() << " lacks " << part;
    }
  }
  ScratchPlace scratch_;
  json file_;
};

TEST_F(SmallTokenizerJson, WinsOverVocabAndMerges) {
  add_opt_vocabulary(scratch_);
  EXPECT_EQ(load("GPT2Tokenizer").encode("ab"), Ids{260});
}

TEST_F(SmallTokenizerJson, ItsAddedTokensSplitText) {
  file_["added_tokens"].push_back(special("<tool>", 261, false, true));
  EXPECT_EQ(load("GPT2Tokenizer").encode("ab<tool></s>"), (Ids{260, 261, 2}));
  EXPECT_EQ(load(nullptr).encode("ab<tool>"), (Ids{260, 261}));
  scratch_.write("tokenizer_config.json", R"({"tokenizer_class": "GPT2Tokenizer", "bos_token": "</s>",
    "added_tokens_decoder": {"2": {"content": "</s>", "special": true}}})");
  EXPECT_EQ(Tokenizer::from_directory(scratch_.path()).encode("<tool>").size(), 6U)
      << "the decoder of the configuration says all, as in transformers";
}

TEST_F(SmallTokenizerJson, WhatStandsAroundAText) {
  EXPECT_EQ(load().encode("ab"), Ids{260});
  file_["post_processor"] = {{"type", "RobertaProcessing"}, {"sep", {"</s>", 2}}, {"cls", {"<s>", 0}}};
  EXPECT_EQ(load().encode("ab"), (Ids{0, 260, 2}));
  EXPECT_EQ(load().encode("ab", false), Ids{260});
  const json begin = {{"type", "TemplateProcessing"},
                      {"single", {{{"SpecialToken", {{"id", "x"}}}}, {{"Sequence", {{"id", "A"}}}}}},
                      {"special_tokens", {{"x", {{"ids", {3, 1}}}}}}};
  file_["post_processor"] = {{"type", "Sequence"}, {"processors", {byte_level, begin}}};
  EXPECT_EQ(load().encode("ab"), (Ids{3, 1, 260}));
  file_["post_processor"] = {{"type", "Sequence"}, {"processors", {file_["post_processor"]}}};
  expect_refused({"post_processor", "'Sequence'"});
  file_["post_processor"] = {{"type", "Nonsense"}};
  expect_refused({"post_processor", "'Nonsense'"});
}

TEST_F(SmallTokenizerJson, PrefixSpaceAndWholePieces) {
  file_["pre_tokenizer"]["add_prefix_space"] = true;
  EXPECT_EQ(load().encode("ab</s> ab"), (Ids{id_of(' '), 260, 2, id_of(' '), 260}));
  EXPECT_EQ(load("GPT2Tokenizer").encode("ab"), Ids{260}) << "the configuration decides for a GPT2Tokenizer";
  file_["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  file_["model"]["merges"].push_back("! a");
  file_["model"]["vocab"]["!a"] = 261;
  EXPECT_EQ(load().encode("!a"), Ids{261});
  EXPECT_EQ(load("GPT2Tokenizer").encode("!a"), (Ids{id_of('!'), id_of('a')}));
}

TEST_F(SmallTokenizerJson, BytesWithoutATokenAreUnknownOrLeftOut) {
  file_["model"]["vocab"].erase("x");
  EXPECT_EQ(load().encode("axxb"), Ids{260}) << "neighbours of what is left out merge";
  file_["model"]["unk_token"] = "<unk>";
  EXPECT_EQ(load().encode("axxb"), (Ids{id_of('a'), 3, 3, id_of('b')}));
  file_["model"]["fuse_unk"] = true;
  EXPECT_EQ(load().encode("axxb"), (Ids{id_of('a'), 3, id_of('b')}));
}

TEST_F(SmallTokenizerJson, WhatIsOfAnotherKindIsNamed) {
  const json good = file_;
  const auto expect_change_refused = [&](const char* where, const json& value, const Texts& parts) {
    SCOPED_TRACE(where);
    file_ = good;
    file_[json::json_pointer(where)] = value;
    expect_refused(parts);
  };
  expect_change_refused("/model/type", "Unigram", {"'Unigram'", "model"});
  expect_change_refused("/model/byte_fallback", true, {"byte_fallback"});
  expect_change_refused("/model/ignore_merges", true, {"ignore_merges"});
  expect_change_refused("/model/dropout", 0.1, {"dropout"});
  expect_change_refused("/model/end_of_word_suffix", "</w>", {"end_of_word_suffix"});
  expect_change_refused("/model/merges", json::array({"a b c"}), {"merge 0"});
  expect_change_refused("/model/merges", json::array({json::array({"a", "nothing"})}), {"\"nothing\""});
  expect_change_refused("/normalizer", {{"type", "Lowercase"}}, {"normalizer", "'Lowercase'"});
  expect_change_refused("/pre_tokenizer", {{"type", "Metaspace"}}, {"pre_tokenizer", "'Metaspace'"});
  expect_change_refused("/pre_tokenizer", {{"type", "Digits"}}, {"no ByteLevel"});
  expect_change_refused("/pre_tokenizer", nullptr, {"pre_tokenizer"});
  expect_change_refused("/decoder", {{"type", "WordPiece"}}, {"decoder", "'WordPiece'"});
  for (const char* pattern : {"\\s+", "\\p{L}", "(?i)a", ".", "[a&&b]", "[[a]]", "\\w"}) {
    const json split = {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}};
    expect_change_refused("/pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {split, byte_level}}},
                          {"pattern"});
  }
  const json merged = {{"type", "Split"}, {"pattern", {{"String", "a"}}}, {"behavior", "MergedWithNext"}};
  expect_change_refused("/pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {merged, byte_level}}},
                        {"MergedWithNext"});
  file_ = good;
  EXPECT_THROW(load("LlamaTokenizerFast"), UserError);
}

TEST(WordSplitter, CutsByRulesThenByThePattern) {
  const auto words = [](const WordRules& rules, std::string_view text) {
    Texts found;
    WordSplitter(rules).for_each_word(text, [&](std::string_view word) { found.emplace_back(word); });
    return found;
  };
  WordRules rules;
  rules.splits = {{SplitRule::Kind::text, "--", true}};
  EXPECT_EQ(words(rules, "a--b c--"), (Texts{"a", "b", " c"}));
  rules.splits = {{SplitRule::Kind::each_digit, "", false}};
  EXPECT_EQ(words(rules, "a12\xC2\xBD"), (Texts{"a", "1", "2", "\xC2\xBD"}));
  rules.splits = {{SplitRule::Kind::digits, "", false}};
  EXPECT_EQ(words(rules, "12a34"), (Texts{"12", "a", "34"}));
  rules.splits = {{SplitRule::Kind::pattern, "([!?])\\1*", false}};
  EXPECT_EQ(words(rules, "a!!?b"), (Texts{"a", "!!", "?", "b"}));
  rules = {{}, true, false};
  EXPECT_EQ(words(rules, "a b"), Texts{" a b"});
  EXPECT_EQ(words(rules, ""), Texts{});
}

TEST(Tokenizer, OfAFolderWithoutFilesRefusesTexts) {
  const Tokenizer none = Tokenizer::none();
  EXPECT_TRUE(none.is_none());
  EXPECT_THROW(none.encode("a"), UserError);
  EXPECT_EQ(none.decode(Ids{1, 2}), "");
  const ScratchPlace scratch;
  EXPECT_FALSE(has_tokenizer_files(scratch.path()));
  scratch.write("merges.txt", "");
  EXPECT_TRUE(has_tokenizer_files(scratch.path()));
}

}  // namespace
}  // namespace flexgen::test
