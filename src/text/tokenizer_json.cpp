#include "text/tokenizer_json.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <string>

namespace flexgen::tokenizer {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view known_kinds =
    "byte-level BPE is known (model BPE, pre_tokenizer ByteLevel, alone or behind Split and Digits); use a model with "
    "such "
    "a tokenizer, or give rows of token ids and take tokenizer.json out of the folder";

const json& null_value() {
  static const json value;
  return value;
}

const json& member(const json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() ? null_value() : *found;
}

// A value in a message: ASCII, cut where it is long.
std::string shown(const json& value) { return value.dump(-1, ' ', true).substr(0, 80); }

// One part of the file: an object that says its type.
class Part {
 public:
  Part(const fs::path& file, std::string name, const json& value) : file_(file), name_(std::move(name)), value_(value) {
    if (!value.is_object() || !member(value, "type").is_string())
      refuse(file, fmt::format("\"{}\" is {}, not an object with a type", name_, shown(value)));
    type_ = value["type"].get<std::string>();
  }

  const std::string& type() const { return type_; }
  const json& operator[](const char* key) const { return member(value_, key); }
  bool flag(const char* key, bool otherwise) const { return tokenizer::flag(file_, value_, key, otherwise); }
  const fs::path& file() const { return file_; }

  // The parts of a "Sequence", which are named `key`; else the part itself.
  std::vector<Part> sequence(const char* key) const {
    if (type_ != "Sequence") return {*this};
    if (!(*this)[key].is_array()) refuse_member(key);
    std::vector<Part> parts;
    for (const json& value : (*this)[key]) {
      parts.emplace_back(file_, name_, value);
      if (parts.back().type() == "Sequence") parts.back().refuse_type();  // one within another
    }
    return parts;
  }

  [[noreturn]] void refuse_type() const {
    refuse(file_, fmt::format("its {} is of the type '{}', which is not supported", name_, type_), known_kinds);
  }
  [[noreturn]] void refuse_member(const char* key) const {
    refuse(file_, fmt::format("its {} has \"{}\" {}, which is not supported", name_, key, shown((*this)[key])),
           known_kinds);
  }

 private:
  fs::path file_;
  std::string name_;
  json value_;
  std::string type_;
};

// Members of the model that change what it does must say that they do not.
void check_model(const Part& model) {
  if (model.type() != "BPE") model.refuse_type();
  for (const char* key : {"byte_fallback", "ignore_merges"})
    if (model.flag(key, false)) model.refuse_member(key);
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (!model[key].is_null() && model[key] != "") model.refuse_member(key);
  if (!model["dropout"].is_null() && model["dropout"] != 0) model.refuse_member("dropout");
}

// "a b" or ["a", "b"].
Merge parse_merge(const Part& model, const Vocabulary& vocabulary, const json& value, std::size_t index) {
  const std::string place = fmt::format("merge {}", index);
  if (value.is_array() && value.size() == 2 && value[0].is_string() && value[1].is_string())
    return make_merge(model.file(), vocabulary, place, value[0].get<std::string>(), value[1].get<std::string>());
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    const std::size_t space = text.find(' ');
    if (space != std::string::npos && space > 0 && space + 1 < text.size() &&
        text.find(' ', space + 1) == std::string::npos)
      return make_merge(model.file(), vocabulary, place, text.substr(0, space), text.substr(space + 1));
  }
  refuse(model.file(), fmt::format("{} is {}, not two tokens", place, shown(value)));
}

std::vector<Merge> parse_merges(const Part& model, const Vocabulary& vocabulary) {
  if (!model["merges"].is_array()) model.refuse_member("merges");
  std::vector<Merge> merges;
  for (const json& value : model["merges"]) merges.push_back(parse_merge(model, vocabulary, value, merges.size()));
  return merges;
}

SplitRule parse_split(const Part& part) {
  if (part.flag("invert", false)) part.refuse_member("invert");
  if (part["behavior"] != "Removed" && part["behavior"] != "Isolated") part.refuse_member("behavior");
  const json& pattern = part["pattern"];
  SplitRule rule;
  rule.is_removed = part["behavior"] == "Removed";
  const bool is_text = member(pattern, "String").is_string();
  const json& match = is_text ? member(pattern, "String") : member(pattern, "Regex");
  if (!match.is_string() || match == "") part.refuse_member("pattern");
  rule.kind = is_text ? SplitRule::Kind::text : SplitRule::Kind::pattern;
  rule.match = match.get<std::string>();
  if (!is_text && !is_portable_pattern(rule.match)) part.refuse_member("pattern");
  return rule;
}

WordRules parse_words(const fs::path& file, const json& value) {
  WordRules rules;
  bool has_bytes = false;
  for (const Part& part : Part(file, "pre_tokenizer", value).sequence("pretokenizers")) {
    if (has_bytes) part.refuse_type();  // what follows ByteLevel would see its alphabet, not the text
    if (part.type() == "ByteLevel") {
      has_bytes = true;
      rules.add_prefix_space = part.flag("add_prefix_space", true);
      rules.use_pattern = part.flag("use_regex", true);
    } else if (part.type() == "Split") {
      rules.splits.push_back(parse_split(part));
    } else if (part.type() == "Digits") {
      const bool each = part.flag("individual_digits", false);
      rules.splits.push_back({each ? SplitRule::Kind::each_digit : SplitRule::Kind::digits, "", false});
    } else {
      part.refuse_type();
    }
  }
  if (!has_bytes) refuse(file, "its pre_tokenizer has no ByteLevel: not a byte-level tokenizer", known_kinds);
  return rules;
}

bool parse_normalizer(const fs::path& file, const json& value) {
  if (value.is_null()) return false;
  bool normalizes = false;
  for (const Part& part : Part(file, "normalizer", value).sequence("normalizers")) {
    if (part.type() != "NFKC") part.refuse_type();
    normalizes = true;
  }
  return normalizes;
}

// The ids of a template's special token.
std::vector<std::int32_t> template_ids(const Part& part, const json& piece) {
  const json& name = member(member(piece, "SpecialToken"), "id");
  if (!name.is_string()) part.refuse_member("single");
  const json& ids = member(member(part["special_tokens"], name.get_ref<const std::string&>().c_str()), "ids");
  if (!ids.is_array()) part.refuse_member("special_tokens");
  std::vector<std::int32_t> tokens;
  for (const json& id : ids) {
    if (!id.is_number_integer() || id.get<double>() < 0 || id.get<double>() > 1e9) part.refuse_member("special_tokens");
    tokens.push_back(id.get<std::int32_t>());
  }
  return tokens;
}

void apply_template(const Part& part, TokenizerJson& result) {
  if (!part["single"].is_array()) part.refuse_member("single");
  std::vector<std::int32_t> before;
  std::vector<std::int32_t> after;
  bool has_text = false;
  for (const json& piece : part["single"]) {
    if (piece.is_object() && piece.contains("Sequence")) {
      if (has_text || member(piece["Sequence"], "id") != "A") part.refuse_member("single");
      has_text = true;
      continue;
    }
    const std::vector<std::int32_t> ids = template_ids(part, piece);
    auto& side = has_text ? after : before;
    side.insert(side.end(), ids.begin(), ids.end());
  }
  if (!has_text) part.refuse_member("single");
  result.before.insert(result.before.begin(), before.begin(), before.end());
  result.after.insert(result.after.end(), after.begin(), after.end());
}

// RobertaProcessing and BertProcessing: "cls": ["<s>", 0] before, "sep": ["</s>", 2] after.
void apply_pair(const Part& part, TokenizerJson& result) {
  const auto id_of = [&](const char* key) {
    const json& value = part[key];
    if (!value.is_array() || value.size() != 2 || !value[1].is_number_unsigned()) part.refuse_member(key);
    return value[1].get<std::int32_t>();
  };
  result.before.insert(result.before.begin(), id_of("cls"));
  result.after.push_back(id_of("sep"));
}

void parse_post_processor(const fs::path& file, const json& value, TokenizerJson& result) {
  if (value.is_null()) return;
  for (const Part& part : Part(file, "post_processor", value).sequence("processors")) {
    if (part.type() == "ByteLevel") continue;  // about offsets alone
    if (part.type() == "TemplateProcessing") apply_template(part, result);
    else if (part.type() == "RobertaProcessing" || part.type() == "BertProcessing") apply_pair(part, result);
    else part.refuse_type();
  }
}

std::vector<AddedToken> parse_added(const fs::path& file, const json& value) {
  std::vector<AddedToken> added;
  if (value.is_null()) return added;
  if (!value.is_array()) refuse(file, "\"added_tokens\" is not a list");
  for (const json& token : value) added.push_back(parse_token(file, "added_tokens", token, false));
  return added;
}

}  // namespace

TokenizerJson read_tokenizer_json(const fs::path& file) {
  const json content = read_object(file);
  const Part model(file, "model", member(content, "model"));
  check_model(model);
  TokenizerJson result{Vocabulary(file, model["vocab"]), {}, {}, false, {}, {}, false, {}, {}};
  result.merges = parse_merges(model, result.vocabulary);
  result.fuses_unknown = model.flag("fuse_unk", false);
  if (model["unk_token"].is_string()) result.unknown = result.vocabulary.find(model["unk_token"].get<std::string>());
  result.added = parse_added(file, member(content, "added_tokens"));
  result.words = parse_words(file, member(content, "pre_tokenizer"));
  result.normalizes = parse_normalizer(file, member(content, "normalizer"));
  if (const json& decoder = member(content, "decoder"); !decoder.is_null())
    for (const Part& part : Part(file, "decoder", decoder).sequence("decoders"))
      if (part.type() != "ByteLevel") part.refuse_type();
  parse_post_processor(file, member(content, "post_processor"), result);
  return result;
}

}  // namespace flexgen::tokenizer
