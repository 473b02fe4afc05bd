#include "app/arguments.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
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

bool is_truth_word(const std::string& word) {
  return word == "true" || word == "false" || word == "1" || word == "0" || word == "yes" || word == "no";
}

std::string canonical_truth(const std::string& word) {
  return word == "true" || word == "1" || word == "yes" ? "true" : "false";
}

[[noreturn]] void refuse_config(const std::string& path, const std::string& reason) {
  throw UserError(ExitCode::usage, "cannot use the config file '" + path + "'", reason,
                  R"(It must be a JSON object of options, for example {"percent": [20, 80, 0, 100, 0, 100], "overlap": true})");
}

std::string value_text(const json& value, const std::string& path, const std::string& key) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean() || value.is_number()) return value.dump();
  refuse_config(path, "'" + key + "' has a value that is no text, number, switch or list of numbers");
}

std::vector<std::string> config_words(const std::string& path, const std::set<std::string>& given) {
  std::ifstream file(path);
  if (!file) throw UserError(ExitCode::file, "cannot open the config file '" + path + "'", errno_text(errno), "Check --config");
  std::ostringstream text;
  text << file.rdbuf();
  const json config = json::parse(text.str(), nullptr, false);
  if (!config.is_object()) refuse_config(path, "it is not a JSON object");
  std::vector<std::string> words;
  for (const auto& [key, value] : config.items()) {
    std::string name = key;
    std::replace(name.begin(), name.end(), '_', '-');
    if (given.contains(name)) continue;
    std::string joined;
    if (value.is_array())
      for (const json& element : value) joined += (joined.empty() ? "" : ",") + value_text(element, path, key);
    else
      joined = value_text(value, path, key);
    words.push_back("--" + name + "=" + joined);
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
    const bool has_value = word.find('=') != std::string::npos;
    given.insert(name);
    if (rules.lists.contains(name) && !has_value) {
      std::string joined;
      while (i + 1 < words.size() && is_number(words[i + 1])) joined += (joined.empty() ? "" : ",") + words[++i];
      normal.push_back(word + "=" + joined);
    } else if (rules.switches.contains(name) && !has_value) {
      const bool followed = i + 1 < words.size() && is_truth_word(words[i + 1]);
      normal.push_back(word + "=" + (followed ? canonical_truth(words[++i]) : "true"));
    } else if (name == "config") {
      config = has_value ? word.substr(word.find('=') + 1) : i + 1 < words.size() ? words[++i] : "";
    } else {
      normal.push_back(word);
      if (!has_value && i + 1 < words.size() && !is_option(words[i + 1])) {
        normal.back() += "=" + words[++i];
      }
    }
  }
  if (!config.empty()) {
    std::vector<std::string> all = config_words(config, given);
    all.insert(all.end(), normal.begin(), normal.end());
    return all;
  }
  return normal;
}

}  // namespace flexgen
