#include "text/tokenizer_parts.hpp"

#include <fmt/core.h>

#include <cerrno>
#include <fstream>
#include <iterator>

#include "base/error.hpp"

namespace flexgen::tokenizer {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr std::int64_t max_id = 1 << 24;  // far above any vocabulary; keeps a broken file from taking all memory

}  // namespace

[[noreturn]] void refuse(const fs::path& file, std::string_view reason, std::string_view suggestion) {
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

json read_optional_object(const fs::path& file) { return is_file(file) ? read_object(file) : json::object(); }

Vocabulary::Vocabulary(const fs::path& file, const json& entries) {
  if (!entries.is_object()) refuse(file, "its vocabulary is not a JSON object");
  for (const auto& [token, id] : entries.items()) {
    if (!id.is_number_integer()) refuse(file, fmt::format("the id of token \"{}\" is not an integer", token));
    set(file, token, id.get<std::int64_t>());
  }
  if (tokens_.empty()) refuse(file, "the vocabulary is empty");
}

void Vocabulary::set(const fs::path& file, const std::string& token, std::int64_t id) {
  if (id < 0 || id >= max_id) refuse(file, fmt::format("the id {} of token \"{}\" is out of range", id, token));
  if (id >= static_cast<std::int64_t>(tokens_.size())) tokens_.resize(id + 1);
  const bool first = used_.emplace(id, token).second;
  if (!first) refuse(file, fmt::format("tokens \"{}\" and \"{}\" have the same id {}", used_.at(id), token, id));
  tokens_[id] = token;
  ids_.emplace(token, static_cast<std::int32_t>(id));
}

std::optional<std::int32_t> Vocabulary::find(const std::string& token) const {
  const auto found = ids_.find(token);
  return found == ids_.end() ? std::nullopt : std::optional(found->second);
}

std::int32_t Vocabulary::find_or_add(const fs::path& file, const std::string& token) {
  if (const auto id = find(token)) return *id;
  set(file, token, static_cast<std::int64_t>(tokens_.size()));
  return ids_.at(token);
}

Merge make_merge(const fs::path& file, const Vocabulary& vocabulary, const std::string& place, const std::string& left,
                 const std::string& right) {
  const auto id_of = [&](const std::string& token) {
    const auto id = vocabulary.find(token);
    if (!id)
      refuse(file, fmt::format("{}: token \"{}\" is not in the vocabulary (vocab.json)", place, token),
             "use the tokenizer files of one model");
    return *id;
  };
  return {id_of(left), id_of(right), id_of(left + right)};
}

bool flag(const fs::path& file, const json& object, const char* name, bool otherwise) {
  const auto found = object.find(name);
  if (found == object.end() || found->is_null()) return otherwise;
  if (!found->is_boolean()) refuse(file, fmt::format("\"{}\" is neither true nor false", name));
  return found->get<bool>();
}

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

}  // namespace flexgen::tokenizer
