// One config.json: typed access to its members, with errors that name file, member and what was found, and an account
// of what was asked for. One thread's own.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "spec/quantization.hpp"

namespace flexgen {

class Config {
 public:
  /// Throws UserError (model) naming `where`, as all that follow do, unless the text is a JSON object.
  static Config parse(std::string_view text, const std::string& where);

  const std::string& where() const { return where_; }
  [[noreturn]] void refuse(const std::string& reason, const std::string& suggestion) const;

  /// Has a value, and not null, which counts as left out.
  bool present(const char* key) const;
  std::int32_t count(const char* key, std::int32_t lowest = 1) const;
  std::int32_t count_or(const char* key, std::int32_t fallback, std::int32_t lowest = 0) const;
  bool flag_or(const char* key, bool fallback) const;
  std::string text_or(const char* key, const std::string& fallback) const;
  /// Of a checkpoint that --save-compressed wrote.
  QuantFormat compression(const char* key) const;

  /// Members that change nothing of what the family computes.
  void pass_over(std::initializer_list<const char*> keys) const;
  /// Members that nobody has asked for, with a value that somebody may expect to change what the model computes.
  std::vector<std::string> unread() const;

 private:
  Config(nlohmann::json object, std::string where);

  nlohmann::json object_;
  std::string where_;
  mutable std::set<std::string, std::less<>> asked_for_;
};

}  // namespace flexgen
