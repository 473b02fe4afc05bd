#include "app/arguments.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "base/error.hpp"

namespace flexgen {
namespace {

using nlohmann::json;

bool is_option(const std::string& word) { return word.size() > 2 && word.starts_with("--"); }

std::string option_name(const std::string& word) { return word.substr(2, word.find('=') - 2); }

bool is_number(const std::string& word) {
  char* end = nullptr;
  std::strtod(word.c_str(), &end);
  return !word.empty() && *end == '\0';
}

// FlexGen's own switch words (True, yes, 1, ...) in any capitals; nothing for other words.
std::optional<std::string> canonical_truth(std::string word) {
  std::transform(word.begin(), word.end(), word.begin(), [](unsigned char c) { return std::tolower(c); });
  for (const char* yes : {"true", "t", "yes", "y", "1"})
    if (word == yes) return "true";
  for (const char* no : {"false", "f", "no", "n", "0"})
    if (word == no) return "false";
  return std::nullopt;
}

[[noreturn]] void refuse_config(const std::string& path, const std::string& reason) {
  throw UserError(
      ExitCode::usage, "cannot use the config file '" + path + "'", reason,
      R"(It must be a JSON object of options, for example {"percent": [20, 80, 0, 100, 0, 100], "overlap": true})");
}

std::string value_text(const json& value, const std::string& path, const std::string& key) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean() || value.is_number()) return value.dump();
  refuse_config(path, "'" + key + "' has a value that is no text, number, switch or list of numbers");
}

// "1" and then "2" make "1,2", the form in which the parser takes lists.
void append_listed(std::string& list, const std::string& element) {
  if (!list.empty()) list += ',';
  list += element;
}

std::vector<std::string> config_words(const std::string& path, const ArgumentRules& rules,
                                      const std::set<std::string>& given) {
  std::ifstream file(path);
  if (!file)
    throw UserError(ExitCode::file, "cannot open the config file '" + path + "'", errno_text(errno), "Check --config");
  std::ostringstream text;
  text << file.rdbuf();
  const json config = json::parse(text.str(), nullptr, false);
  if (!config.is_object()) refuse_config(path, "it is not a JSON object");
  std::vector<std::string> words;
  for (const auto& [key, value] : config.items()) {
    std::string name = key;
    std::replace(name.begin(), name.end(), '_', '-');
    if (name == "config") refuse_config(path, "it names another config file");
    if (given.contains(name)) continue;
    std::string joined;
    if (value.is_array())
      for (const json& element : value) append_listed(joined, value_text(element, path, key));
    else joined = value_text(value, path, key);
    if (rules.switches.contains(name)) joined = canonical_truth(joined).value_or(joined);
    words.push_back(fmt::format("--{}={}", name, joined));
  }
  return words;
}

}  // namespace

std::vector<std::string> normalize_arguments(std::vector<std::string> words, const ArgumentRules& rules) {
  std::vector<std::string> normal;
  std::set<std::string> given;
  std::string config;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (!is_option(word)) {
      normal.push_back(word);
      continue;
    }
    const std::string name = option_name(word);
    const std::size_t equals = word.find('=');
    const bool has_value = equals != std::string::npos;
    const bool has_next = i + 1 < words.size();
    given.insert(name);
    if (rules.lists.contains(name) && !has_value) {
      std::string joined;
      while (i + 1 < words.size() && is_number(words[i + 1])) append_listed(joined, words[++i]);
      if (joined.empty())
        throw UserError(ExitCode::usage, fmt::format("{} has no numbers", word), "",
                        fmt::format("For example {} 20 80 0 100 0 100", word));
      normal.push_back(fmt::format("{}={}", word, joined));
    } else if (rules.switches.contains(name) && !has_value) {
      const std::optional<std::string> truth = has_next ? canonical_truth(words[i + 1]) : std::nullopt;
      if (truth) ++i;
      normal.push_back(word + "=" + truth.value_or("true"));
    } else if (rules.switches.contains(name)) {
      const std::string value = word.substr(equals + 1);
      normal.push_back("--" + name + "=" + canonical_truth(value).value_or(value));  // the parser refuses other words
    } else if (name == "config") {
      config = has_value ? word.substr(equals + 1) : has_next ? words[++i] : "";
      if (config.empty()) throw UserError(ExitCode::usage, "--config has no value", "", "Name a JSON file of options");
    } else {
      normal.push_back(word);
      if (!has_value && has_next && !is_option(words[i + 1])) normal.back() += "=" + words[++i];
    }
  }
  if (!config.empty()) {
    std::vector<std::string> all = config_words(config, rules, given);
    all.insert(all.end(), normal.begin(), normal.end());
    return all;
  }
  return normal;
}

}  // namespace flexgen
