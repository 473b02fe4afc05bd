// What the readers of tokenizer files share: JSON objects, the vocabulary, tokens as the files write them.
//
// Internal to the readers' source files (it shows the JSON library). All errors are UserError (model) that name the
// file. Plain data and free functions; a Vocabulary belongs to one reader.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/added_tokens.hpp"
#include "text/bpe.hpp"

namespace flexgen::tokenizer {

inline constexpr std::string_view download_again = "fetch the file again from where the model came from";

[[noreturn]] void refuse(const std::filesystem::path& file, std::string_view reason,
                         std::string_view suggestion = download_again);

bool is_file(const std::filesystem::path& file);
std::string read_file(const std::filesystem::path& file);
nlohmann::json read_object(const std::filesystem::path& file);
/// {} when the file is absent.
nlohmann::json read_optional_object(const std::filesystem::path& file);

/// Token text <-> id. Grows by added tokens.
class Vocabulary {
 public:
  /// @param entries  an object, text -> id
  Vocabulary(const std::filesystem::path& file, const nlohmann::json& entries);

  void set(const std::filesystem::path& file, const std::string& token, std::int64_t id);
  std::optional<std::int32_t> find(const std::string& token) const;
  std::int32_t find_or_add(const std::filesystem::path& file, const std::string& token);
  const std::vector<std::string>& tokens() const { return tokens_; }

 private:
  std::vector<std::string> tokens_;
  std::unordered_map<std::int64_t, std::string> used_;
  std::unordered_map<std::string, std::int32_t> ids_;
};

/// The pair of two tokens, which must be in the vocabulary; `place` is for messages ("line 3").
Merge make_merge(const std::filesystem::path& file, const Vocabulary& vocabulary, const std::string& place,
                 const std::string& left, const std::string& right);

/// A member that is true or false; `otherwise` where it is absent or null.
bool flag(const std::filesystem::path& file, const nlohmann::json& object, const char* name, bool otherwise);

/// A token as those files write it: a string, or an object with a "content" and flags.
AddedToken parse_token(const std::filesystem::path& file, std::string_view name, const nlohmann::json& value,
                       bool special);

}  // namespace flexgen::tokenizer
