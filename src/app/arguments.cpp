#include "app/arguments.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "app/option_values.hpp"
#include "base/error.hpp"

namespace flexgen {
namespace {

using nlohmann::json;

bool is_option(const std::string& word) { return word.size() > 2 && word.starts_with("--"); }

std::string option_name(const std::string& word) { return word.substr(2, word.find('=') - 2); }

// One word may hold several numbers, in quotes or with commas: "20 80 0 100 0 100".
bool is_number_list(const std::string& word) {
  const std::vector<std::string> numbers = split_list(word);
  return !numbers.empty() && std::all_of(numbers.begin(), numbers.end(), is_real_number);
}

std::string canonical_truth(const std::string& option, const std::string& word) {
  if (const std::optional<bool> known = truth(word)) return *known ? "true" : "false";
  throw UserError(ExitCode::usage, fmt::format("--{} {} is neither true nor false", option, word.empty() ? "''" : word),
                  "", fmt::format("Give --{0} true, --{0} false, or --{0} alone", option));
}

// Keys may be written as FlexGen's Python names.
std::string option_of_key(std::string key) {
  std::replace(key.begin(), key.end(), '_', '-');
  return key;
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

// Later ones would replace earlier ones in silence.
json parse_config(const std::string& path, const std::string& text) {
  std::set<std::string> names;
  std::string twice;
  const auto look_at_keys = [&](int depth, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::key && depth == 1) {
      const auto key = parsed.get<std::string>();
      if (!names.insert(option_of_key(key)).second) twice = key;
    }
    return true;
  };
  json config = json::parse(text, look_at_keys, false);
  if (!config.is_object()) refuse_config(path, "it is not a JSON object");
  if (!twice.empty()) refuse_config(path, "'" + twice + "' stands in it twice");
  return config;
}

std::vector<std::string> config_words(const std::string& path, const ArgumentRules& rules,
                                      const std::set<std::string>& given) {
  std::ifstream file(path);
  if (!file)
    throw UserError(ExitCode::file, "cannot open the config file '" + path + "'", errno_text(errno), "Check --config");
  std::ostringstream text;
  text << file.rdbuf();
  const json config = parse_config(path, text.str());
  std::vector<std::string> words;
  for (const auto& [key, value] : config.items()) {
    const std::string name = option_of_key(key);
    if (name == "config") refuse_config(path, "it names another config file");
    if (given.contains(name)) continue;
    if (value.is_array() && rules.files.contains(name)) {
      for (const json& element : value) words.push_back(fmt::format("--{}={}", name, value_text(element, path, key)));
      continue;
    }
    std::string joined;
    if (value.is_array())
      for (const json& element : value) append_listed(joined, value_text(element, path, key));
    else joined = value_text(value, path, key);
    if (rules.switches.contains(name)) joined = canonical_truth(name, joined);
    words.push_back(fmt::format("--{}={}", name, joined));
  }
  return words;
}

}  // namespace

NormalArguments normalize_arguments(std::vector<std::string> words, const ArgumentRules& rules) {
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
    if (rules.files.contains(name)) {
      const std::string own = has_value ? word.substr(equals + 1) : "";
      if (!own.empty() || !has_next || is_option(words[i + 1])) normal.push_back(fmt::format("--{}={}", name, own));
      while (i + 1 < words.size() && !is_option(words[i + 1]))
        normal.push_back(fmt::format("--{}={}", name, words[++i]));
    } else if (rules.lists.contains(name) && !has_value) {
      std::string joined;
      while (i + 1 < words.size() && is_number_list(words[i + 1])) append_listed(joined, words[++i]);
      const bool is_alone = i + 2 >= words.size() || is_option(words[i + 2]);
      if (joined.empty() && has_next && is_alone && !is_option(words[i + 1])) joined = words[++i];  // a file of them
      if (joined.empty())
        throw UserError(ExitCode::usage, fmt::format("{} has no numbers", word), "",
                        fmt::format("For example {} 20 80 0 100 0 100", word));
      normal.push_back(fmt::format("{}={}", word, joined));
    } else if (rules.switches.contains(name) && !has_value) {
      const bool is_followed = has_next && truth(words[i + 1]).has_value();
      normal.push_back(word + "=" + (is_followed ? canonical_truth(name, words[++i]) : "true"));
    } else if (rules.switches.contains(name)) {
      normal.push_back("--" + name + "=" + canonical_truth(name, word.substr(equals + 1)));
    } else if (name == "config") {
      config = has_value ? word.substr(equals + 1) : has_next ? words[++i] : "";
      if (config.empty()) throw UserError(ExitCode::usage, "--config has no value", "", "Name a JSON file of options");
    } else {
      normal.push_back(word);
      if (!has_value && has_next && !is_option(words[i + 1])) normal.back() += "=" + words[++i];
    }
  }
  if (!config.empty()) {
    const std::vector<std::string> all = config_words(config, rules, given);
    normal.insert(normal.begin(), all.begin(), all.end());
  }
  return {normal, config};
}

}  // namespace flexgen
