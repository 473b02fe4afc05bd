#include "text/tokenizer_files.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <optional>
#include <unordered_map>

#include "base/error.hpp"
#include "text/byte_alphabet.hpp"
#include "text/tokenizer_json.hpp"
#include "text/tokenizer_parts.hpp"

namespace flexgen {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using tokenizer::flag;
using tokenizer::is_file;
using tokenizer::parse_token;
using tokenizer::read_optional_object;
using tokenizer::refuse;
using tokenizer::TokenizerJson;
using tokenizer::Vocabulary;

std::vector<Merge> read_merges(const fs::path& file, const Vocabulary& vocabulary) {
  const std::string content = tokenizer::read_file(file);
  std::vector<Merge> merges;
  std::size_t line_number = 0;
  for (std::size_t begin = 0; begin < content.size();) {
    const std::size_t newline = std::min(content.find('\n', begin), content.size());
    std::string_view line = std::string_view(content).substr(begin, newline - begin);
    begin = newline + 1;
    ++line_number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line_number == 1 && line.starts_with("#version")) continue;
    if (line.empty() && begin >= content.size()) continue;
    const std::size_t space = line.find(' ');
    if (space == 0 || space == std::string_view::npos || space + 1 == line.size() ||
        line.find(' ', space + 1) != std::string_view::npos) {
      refuse(file, fmt::format("line {}: two tokens with one space between them are expected", line_number));
    }
    merges.push_back(tokenizer::make_merge(file, vocabulary, fmt::format("line {}", line_number),
                                           std::string(line.substr(0, space)), std::string(line.substr(space + 1))));
  }
  return merges;
}

// What transformers makes of a folder: GPT2Tokenizer takes vocabulary, merges and what stands around a text, and cuts
// words its own way; a tokenizer that is all in tokenizer.json is taken as it stands there.
enum class TokenizerKind : std::uint8_t { gpt2, whole_file };

constexpr std::array<const char*, 7> token_names = {"bos_token", "eos_token", "unk_token", "sep_token",
                                                    "pad_token", "cls_token", "mask_token"};

// Collects the added tokens and the named ids of one model directory.
class AddedTokenReader {
 public:
  /// @param whole  what tokenizer.json holds; null where there is none
  AddedTokenReader(const fs::path& model_dir, Vocabulary& vocabulary, const TokenizerJson* whole)
      : config_file_(model_dir / "tokenizer_config.json"),
        map_file_(model_dir / "special_tokens_map.json"),
        added_file_(model_dir / "added_tokens.json"),
        whole_file_(model_dir / "tokenizer.json"),
        config_(read_optional_object(config_file_)),
        vocabulary_(vocabulary),
        whole_(whole),
        kind_(find_kind()) {}

  TokenizerKind kind() const { return kind_; }

  void read(TokenizerFiles& files) {
    if (flag(config_file_, config_, "split_special_tokens", false))
      refuse(config_file_, "split_special_tokens is true, which is not supported",
             "set it to false if the model allows it");
    const bool has_decoder = config_.contains("added_tokens_decoder");
    if (whole_ != nullptr && (kind_ == TokenizerKind::whole_file || !has_decoder))
      for (const AddedToken& token : whole_->added) add(whole_file_, token);
    if (has_decoder) {
      read_decoder();
    } else {
      map_ = read_optional_object(map_file_);
      read_added_file();
    }
    for (const char* name : token_names) read_named(name);
    if (named_.empty() && kind_ == TokenizerKind::gpt2) name_standard_tokens();
    for (const char* name : {"additional_special_tokens", "extra_special_tokens"}) read_list(name);

    files.bos_id = id_of_name("bos_token");
    files.eos_id = id_of_name("eos_token");
    files.pad_id = id_of_name("pad_token");
    name_surroundings(files);
    files.words.add_prefix_space = kind_ == TokenizerKind::whole_file
                                       ? whole_->words.add_prefix_space
                                       : flag(config_file_, config_, "add_prefix_space", false);
    files.added = std::move(added_);
  }

 private:
  TokenizerKind find_kind() const {
    const auto kind = config_.find("tokenizer_class");
    if (kind == config_.end() || kind->is_null()) return TokenizerKind::gpt2;
    const std::string name = kind->is_string() ? kind->get<std::string>() : "";
    if (name.starts_with("GPT2Tokenizer")) return TokenizerKind::gpt2;
    const bool is_whole = name == "PreTrainedTokenizerFast" || name == "TokenizersBackend";
    if (is_whole && whole_ != nullptr) return TokenizerKind::whole_file;
    refuse(config_file_,
           is_whole ? fmt::format("tokenizer_class is {}, and there is no tokenizer.json", kind->dump())
                    : fmt::format("tokenizer_class is {}, only GPT2Tokenizer (byte-level BPE) is known", kind->dump()),
           "use an OPT model, or one with the tokenizer of GPT-2");
  }

  // What stands before and after a text: tokenizer.json says it where there is one, else the configuration.
  void name_surroundings(TokenizerFiles& files) const {
    if (whole_ != nullptr) {
      files.before = whole_->before;
      files.after = whole_->after;
      return;
    }
    const bool is_opt = files.bos_id >= 0 && vocabulary_.tokens()[files.bos_id] == "</s>";
    if (flag(config_file_, config_, "add_bos_token", is_opt) && files.bos_id >= 0) files.before = {files.bos_id};
    if (flag(config_file_, config_, "add_eos_token", false) && files.eos_id >= 0) files.after = {files.eos_id};
  }

  void add(const fs::path& file, AddedToken token) {
    if (token.id < 0) token.id = vocabulary_.find_or_add(file, token.content);
    const auto same = std::ranges::find(added_, token.content, &AddedToken::content);
    if (same == added_.end()) {
      added_.push_back(std::move(token));
    } else {
      same->special = same->special || token.special;  // whoever comes first decides about the rest
    }
  }

  // "added_tokens_decoder": {"50265": {"content": ...}}; a token of the vocabulary keeps the vocabulary's id.
  void read_decoder() {
    const json& decoder = config_["added_tokens_decoder"];
    if (decoder.is_null()) return;
    if (!decoder.is_object()) refuse(config_file_, "\"added_tokens_decoder\" is not an object");
    std::vector<std::pair<int, AddedToken>> by_id;
    for (const auto& [id, value] : decoder.items()) {
      if (id.empty() || id.size() > 8 || !std::ranges::all_of(id, [](char c) { return c >= '0' && c <= '9'; })) {
        refuse(config_file_, fmt::format("key \"{}\" of \"added_tokens_decoder\" is not an id", id));
      }
      by_id.emplace_back(std::stoi(id), parse_token(config_file_, "added_tokens_decoder", value, false));
    }
    std::ranges::sort(by_id, {}, [](const auto& entry) { return entry.first; });
    for (auto& [id, token] : by_id) add(config_file_, std::move(token));
  }

  void read_added_file() {
    const json entries = read_optional_object(added_file_);
    std::vector<std::pair<std::int64_t, std::string>> by_id;
    for (const auto& [content, id] : entries.items()) {
      if (!id.is_number_integer())
        refuse(added_file_, fmt::format("the id of token \"{}\" is not an integer", content));
      by_id.emplace_back(id.get<std::int64_t>(), content);
    }
    std::ranges::sort(by_id);
    for (const auto& [id, content] : by_id) {
      if (!vocabulary_.find(content)) vocabulary_.set(added_file_, content, id);
      AddedToken token;
      token.content = content;
      token.normalized = true;
      late_.push_back(std::move(token));
    }
  }

  // The value that counts for a name, and its file.
  std::pair<const json*, const fs::path*> value_of(const char* name) const {
    if (const auto found = map_.find(name); found != map_.end() && !found->is_null()) return {&*found, &map_file_};
    if (const auto found = config_.find(name); found != config_.end()) return {&*found, &config_file_};
    return {nullptr, nullptr};
  }

  void read_named(const std::string& name) {
    const auto [value, file] = value_of(name.c_str());
    if (value == nullptr || value->is_null()) return;
    AddedToken token = parse_token(*file, name, *value, true);
    named_[name] = token.content;
    add(*file, std::move(token));
  }

  void name_standard_tokens() {
    const bool is_opt = vocabulary_.find("</s>").has_value();
    for (const char* name : {"bos_token", "eos_token", "unk_token", "pad_token"}) {
      const bool is_pad = std::string_view(name) == "pad_token";
      AddedToken token;
      token.content = !is_opt ? "<|endoftext|>" : is_pad ? "<pad>" : "</s>";
      token.special = true;
      if ((is_pad && !is_opt) || !vocabulary_.find(token.content)) continue;
      named_[name] = token.content;
      add(config_file_, std::move(token));
    }
  }

  void read_list(const char* name) {
    const auto [value, file] = value_of(name);
    if (value != nullptr && !value->is_null()) {
      if (!value->is_array() && !value->is_object()) refuse(*file, fmt::format("\"{}\" is not a list", name));
      for (const json& element : *value) add(*file, parse_token(*file, name, element, true));
    }
    for (AddedToken& token : late_) add(added_file_, std::move(token));
    late_.clear();
  }

  std::int32_t id_of_name(const std::string& name) const {
    const auto found = named_.find(name);
    return found == named_.end() ? -1 : vocabulary_.find(found->second).value_or(-1);
  }

  fs::path config_file_;
  fs::path map_file_;
  fs::path added_file_;
  fs::path whole_file_;
  json config_;
  json map_ = json::object();
  Vocabulary& vocabulary_;
  const TokenizerJson* whole_;
  TokenizerKind kind_;
  std::vector<AddedToken> added_;
  std::vector<AddedToken> late_;  // of added_tokens.json: a special token of the same text comes first
  std::unordered_map<std::string, std::string> named_;
};

void check_files_exist(const fs::path& model_dir) {
  std::error_code error;
  if (!fs::is_directory(model_dir, error)) {
    throw UserError(ExitCode::model, fmt::format("cannot read a tokenizer from '{}'", model_dir.string()),
                    "there is no such directory", "give the directory of a Hugging Face model");
  }
  for (const char* name : {"vocab.json", "merges.txt"})
    if (!is_file(model_dir / name))
      refuse(model_dir / name, "the file is missing",
             "copy vocab.json and merges.txt, or tokenizer.json, of the model into its directory");
}

// The token of each byte; -1 where there is none, which `may_lack` allows.
std::array<std::int32_t, 256> find_bytes(const fs::path& file, const Vocabulary& vocabulary, bool may_lack) {
  std::array<std::int32_t, 256> ids{};
  for (int byte = 0; byte < 256; ++byte) {
    const std::string symbol(byte_symbol(static_cast<std::uint8_t>(byte)));
    const auto id = vocabulary.find(symbol);
    if (!id && !may_lack) {
      refuse(file, fmt::format("there is no token \"{}\" for byte 0x{:02X}: not a byte-level vocabulary", symbol, byte),
             "use an OPT model, or one with the tokenizer of GPT-2");
    }
    ids[byte] = id.value_or(-1);
  }
  return ids;
}

// Everything is in tokenizer.json, which wins over vocab.json and merges.txt, as in transformers.
TokenizerFiles read_whole_file(const fs::path& model_dir) {
  const fs::path file = model_dir / "tokenizer.json";
  TokenizerJson whole = tokenizer::read_tokenizer_json(file);
  AddedTokenReader reader(model_dir, whole.vocabulary, &whole);
  TokenizerFiles files;
  files.byte_ids = find_bytes(file, whole.vocabulary, true);
  if (std::ranges::all_of(files.byte_ids, [](std::int32_t id) { return id < 0; }))
    refuse(file, "no byte has a token: not a byte-level vocabulary");
  files.merges = whole.merges;
  if (reader.kind() == TokenizerKind::whole_file) {
    files.words = whole.words;
    files.normalizes = whole.normalizes;
    files.unk_id = whole.unknown.value_or(-1);
    files.fuses_unk = whole.fuses_unknown;
  }
  reader.read(files);
  files.tokens = whole.vocabulary.tokens();
  return files;
}

}  // namespace

bool has_tokenizer_files(const fs::path& model_dir) {
  return is_file(model_dir / "tokenizer.json") || is_file(model_dir / "vocab.json") ||
         is_file(model_dir / "merges.txt");
}

TokenizerFiles read_tokenizer_files(const fs::path& model_dir) {
  if (is_file(model_dir / "tokenizer.json")) return read_whole_file(model_dir);
  check_files_exist(model_dir);
  const fs::path vocab_file = model_dir / "vocab.json";
  Vocabulary vocabulary(vocab_file, tokenizer::read_object(vocab_file));
  TokenizerFiles files;
  files.byte_ids = find_bytes(vocab_file, vocabulary, false);
  files.merges = read_merges(model_dir / "merges.txt", vocabulary);
  AddedTokenReader(model_dir, vocabulary, nullptr).read(files);
  files.tokens = vocabulary.tokens();
  return files;
}

}  // namespace flexgen
