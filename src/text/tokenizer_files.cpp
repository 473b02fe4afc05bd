#include "text/tokenizer_files.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>

#include "base/error.hpp"
#include "text/byte_alphabet.hpp"
#include "text/utf8.hpp"

namespace flexgen {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view download_again = "fetch the file again from where the model came from";
constexpr std::int64_t max_id = 1 << 24;  // far above any vocabulary; keeps a broken file from taking all memory

[[noreturn]] void refuse(const fs::path& file, std::string_view reason, std::string_view suggestion = download_again) {
  throw UserError(ExitCode::model, fmt::format("cannot read tokenizer file '{}'", file.string()), reason, suggestion);
}

bool is_file(const fs::path& file) {
  std::error_code error;
  return fs::is_regular_file(file, error);
}

std::string read_file(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) refuse(file, errno_text(errno), "check the file's permissions");
  std::string content{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  if (stream.bad()) refuse(file, errno_text(errno), "check the disk");
  return content;
}

json read_object(const fs::path& file) {
  json value;
  try {
    value = json::parse(read_file(file));
  } catch (const json::exception& error) {
    refuse(file, error.what());
  }
  if (!value.is_object()) refuse(file, "a JSON object is expected");
  return value;
}

// {} when the file is absent.
json read_optional_object(const fs::path& file) { return is_file(file) ? read_object(file) : json::object(); }

// Token text <-> id. Grows by added tokens.
class Vocabulary {
 public:
  explicit Vocabulary(const fs::path& file) {
    const json entries = read_object(file);
    for (const auto& [token, id] : entries.items()) {
      if (!id.is_number_integer()) refuse(file, fmt::format("the id of token \"{}\" is not an integer", token));
      set(file, token, id.get<std::int64_t>());
    }
    if (tokens_.empty()) refuse(file, "the vocabulary is empty");
  }

  void set(const fs::path& file, const std::string& token, std::int64_t id) {
    if (id < 0 || id >= max_id) refuse(file, fmt::format("the id {} of token \"{}\" is out of range", id, token));
    if (id >= static_cast<std::int64_t>(tokens_.size())) tokens_.resize(id + 1);
    const bool first = used_.emplace(id, token).second;
    if (!first) refuse(file, fmt::format("tokens \"{}\" and \"{}\" have the same id {}", used_.at(id), token, id));
    tokens_[id] = token;
    ids_.emplace(token, static_cast<std::int32_t>(id));
  }

  std::optional<std::int32_t> find(const std::string& token) const {
    const auto found = ids_.find(token);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }
  std::int32_t find_or_add(const fs::path& file, const std::string& token) {
    if (const auto id = find(token)) return *id;
    set(file, token, static_cast<std::int64_t>(tokens_.size()));
    return ids_.at(token);
  }
  const std::vector<std::string>& tokens() const { return tokens_; }

 private:
  std::vector<std::string> tokens_;
  std::unordered_map<std::int64_t, std::string> used_;
  std::unordered_map<std::string, std::int32_t> ids_;
};

std::vector<Merge> read_merges(const fs::path& file, const Vocabulary& vocabulary) {
  const std::string content = read_file(file);
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
    const std::string left(line.substr(0, space));
    const std::string right(line.substr(space + 1));
    auto id_of = [&](const std::string& token) {
      const auto id = vocabulary.find(token);
      if (!id) {
        refuse(file, fmt::format("line {}: token \"{}\" is not in vocab.json", line_number, token),
               "use vocab.json and merges.txt of the same model");
      }
      return *id;
    };
    merges.push_back({id_of(left), id_of(right), id_of(left + right)});
  }
  return merges;
}

bool flag(const fs::path& file, const json& object, const char* name, bool otherwise) {
  const auto found = object.find(name);
  if (found == object.end() || found->is_null()) return otherwise;
  if (!found->is_boolean()) refuse(file, fmt::format("\"{}\" is neither true nor false", name));
  return found->get<bool>();
}

// A token as those files write it: a string, or an object with a "content" and flags.
AddedToken parse_token(const fs::path& file, std::string_view name, const json& value, bool special) {
  AddedToken token;
  token.special = special;
  if (value.is_string()) {
    token.content = value.get<std::string>();
  } else if (value.is_object() && value.contains("content") && value["content"].is_string()) {
    token.content = value["content"].get<std::string>();
    token.lstrip = flag(file, value, "lstrip", false);
    token.rstrip = flag(file, value, "rstrip", false);
    token.special = special || flag(file, value, "special", false);
    token.normalized = flag(file, value, "normalized", !token.special);
    if (flag(file, value, "single_word", false)) {
      refuse(file, fmt::format("token \"{}\" is marked single_word, which is not supported", token.content),
             "set single_word to false if the model allows it");
    }
  } else {
    refuse(file, fmt::format("\"{}\" is neither a string nor an object with a \"content\"", name));
  }
  if (token.content.empty()) refuse(file, fmt::format("\"{}\" is empty", name));
  return token;
}

constexpr std::array<const char*, 7> token_names = {"bos_token", "eos_token", "unk_token", "sep_token",
                                                    "pad_token", "cls_token", "mask_token"};

// Collects the added tokens and the named ids of one model directory.
class AddedTokenReader {
 public:
  AddedTokenReader(const fs::path& model_dir, Vocabulary& vocabulary)
      : config_file_(model_dir / "tokenizer_config.json"),
        map_file_(model_dir / "special_tokens_map.json"),
        added_file_(model_dir / "added_tokens.json"),
        config_(read_optional_object(config_file_)),
        vocabulary_(vocabulary) {}

  void read(TokenizerFiles& files) {
    check_kind();
    const bool has_decoder = config_.contains("added_tokens_decoder");
    if (has_decoder) {
      read_decoder();
    } else {
      map_ = read_optional_object(map_file_);
      read_added_file();
    }
    for (const char* name : token_names) read_named(name);
    if (named_.empty()) name_standard_tokens();
    for (const char* name : {"additional_special_tokens", "extra_special_tokens"}) read_list(name);

    files.bos_id = id_of_name("bos_token");
    files.eos_id = id_of_name("eos_token");
    files.pad_id = id_of_name("pad_token");
    const bool is_opt = files.bos_id >= 0 && vocabulary_.tokens()[files.bos_id] == "</s>";
    files.add_bos = flag(config_file_, config_, "add_bos_token", is_opt) && files.bos_id >= 0;
    files.add_eos = flag(config_file_, config_, "add_eos_token", false) && files.eos_id >= 0;
    files.add_prefix_space = flag(config_file_, config_, "add_prefix_space", false);
    files.added = std::move(added_);
  }

 private:
  void check_kind() const {
    const auto kind = config_.find("tokenizer_class");
    if (kind == config_.end() || kind->is_null()) return;
    if (!kind->is_string() || !kind->get<std::string>().starts_with("GPT2Tokenizer")) {
      refuse(config_file_,
             fmt::format("tokenizer_class is {}, only GPT2Tokenizer (byte-level BPE) is known", kind->dump()),
             "use an OPT model, or one with the tokenizer of GPT-2");
    }
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
  json config_;
  json map_ = json::object();
  Vocabulary& vocabulary_;
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
  for (const char* name : {"vocab.json", "merges.txt"}) {
    if (is_file(model_dir / name)) continue;
    if (is_file(model_dir / "tokenizer.json")) {
      refuse(model_dir / "tokenizer.json",
             fmt::format("it brings its own pre-tokenizer, which is not supported, and {} is missing", name),
             "put vocab.json and merges.txt beside it, if the model has the tokenizer of GPT-2 or OPT");
    }
    refuse(model_dir / name, "the file is missing", "copy vocab.json and merges.txt of the model into its directory");
  }
}

}  // namespace

TokenizerFiles read_tokenizer_files(const fs::path& model_dir) {
  check_files_exist(model_dir);
  const fs::path vocab_file = model_dir / "vocab.json";
  Vocabulary vocabulary(vocab_file);
  TokenizerFiles files;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string symbol(byte_symbol(static_cast<std::uint8_t>(byte)));
    const auto id = vocabulary.find(symbol);
    if (!id) {
      refuse(vocab_file,
             fmt::format("there is no token \"{}\" for byte 0x{:02X}: not a byte-level vocabulary", symbol, byte),
             "use an OPT model, or one with the tokenizer of GPT-2");
    }
    files.byte_ids[byte] = *id;
  }
  files.merges = read_merges(model_dir / "merges.txt", vocabulary);
  AddedTokenReader(model_dir, vocabulary).read(files);
  files.tokens = vocabulary.tokens();
  return files;
}

}  // namespace flexgen
