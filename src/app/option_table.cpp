#include "app/option_table.hpp"

#include <fmt/core.h>

#include <cstdio>
#include <cxxopts.hpp>
#include <memory>
#include <utility>

#include "app/arguments.hpp"
#include "app/option_values.hpp"
#include "base/error.hpp"

namespace flexgen {
namespace into {

using Form = OptionValue::Form;

OptionValue text(std::string& to) {
  return {Form::word, "", [&to](const std::string&, const std::string& word) { to = word; }};
}

// The command line has been brought to "true" and "false".
OptionValue on_off(bool& to) {
  return {Form::on_off, "", [&to](const std::string&, const std::string& word) { to = word == "true"; }};
}

OptionValue on_off(std::optional<bool>& to) {
  return {Form::on_off, "", [&to](const std::string&, const std::string& word) { to = word == "true"; }};
}

OptionValue positive(std::int32_t& to) {
  return {Form::word, to > 0 ? std::to_string(to) : "",
          [&to](const std::string& option, const std::string& word) { to = positive_number(option, word); }};
}

OptionValue positive(std::optional<std::int32_t>& to) {
  return {Form::word, "",
          [&to](const std::string& option, const std::string& word) { to = positive_number(option, word); }};
}

OptionValue count(std::int64_t& to) {
  return {Form::word, "", [&to](const std::string& option, const std::string& word) {
            to = whole_number(option, word);
            if (to < 1) throw UserError(ExitCode::usage, fmt::format("--{} must be at least 1", option), "");
          }};
}

OptionValue number_to(double most, double& to) {
  return {Form::word, fmt::format("{}", to),
          [most, &to](const std::string& option, const std::string& word) { to = real_number_to(option, word, most); }};
}

OptionValue bytes(std::optional<std::uint64_t>& to) {
  return {Form::word, "",
          [&to](const std::string& option, const std::string& word) { to = size_in_bytes(option, word); }};
}

OptionValue one_of(std::initializer_list<const char*> known, std::string& to) {
  return {Form::word, to,
          [known = std::vector<const char*>(known), &to](const std::string& option, const std::string& word) {
            to = flexgen::one_of(option, word, known);
          }};
}

OptionValue word(std::string shown_default,
                 std::function<void(const std::string& option, const std::string& word)> keep) {
  return {Form::word, std::move(shown_default), std::move(keep)};
}

OptionValue list(std::function<void(const std::string& option, const std::string& words)> keep) {
  return {Form::list, "", std::move(keep)};
}

OptionValue files(std::vector<std::string>& to) {
  return {Form::files, "", [&to](const std::string&, const std::string& word) { to.push_back(word); }};
}

OptionValue repeated(std::function<void(const std::string& option, const std::string& word)> keep) {
  return {Form::repeated, "", std::move(keep)};
}

}  // namespace into

namespace {

ArgumentRules rules_of(const std::vector<OptionTable>& tables) {
  ArgumentRules rules{{"help"}, {}, {}};
  for (const OptionTable& table : tables)
    for (const OptionRow& row : table.rows) {
      if (row.value.form == OptionValue::Form::on_off) rules.switches.insert(row.name);
      if (row.value.form == OptionValue::Form::list) rules.lists.insert(row.name);
      if (row.value.form == OptionValue::Form::files) rules.files.insert(row.name);
    }
  return rules;
}

std::shared_ptr<cxxopts::Value> parser_value(const OptionValue& value) {
  if (value.form == OptionValue::Form::on_off) return cxxopts::value<bool>()->implicit_value("true");
  if (value.shown_default.empty()) return cxxopts::value<std::string>();
  return cxxopts::value<std::string>()->default_value(value.shown_default);
}

cxxopts::Options parser_of(const std::string& command, const std::string& purpose,
                           const std::vector<OptionTable>& tables) {
  cxxopts::Options parser("flexgen-dist " + command, purpose);
  for (const OptionTable& table : tables)
    for (const OptionRow& row : table.rows)
      parser.add_options(table.title)(row.name, row.help, parser_value(row.value), row.hint);
  parser.add_options(tables.back().title)("config", "options from a JSON file; the command line wins",
                                          cxxopts::value<std::string>(), "FILE")("h,help", "this text");
  return parser;
}

std::string word_of(const cxxopts::ParseResult& parsed, const OptionRow& row) {
  if (row.value.form == OptionValue::Form::on_off) return parsed[row.name].as<bool>() ? "true" : "false";
  return parsed[row.name].as<std::string>();
}

void keep_values(const cxxopts::ParseResult& parsed, const OptionRow& row) {
  if (row.value.form != OptionValue::Form::repeated && row.value.form != OptionValue::Form::files) {
    row.value.keep(row.name, word_of(parsed, row));
    return;
  }
  for (const auto& argument : parsed.arguments())
    if (argument.key() == row.name) row.value.keep(row.name, argument.value());
}

}  // namespace

std::optional<GivenOptions> read_options(const std::string& command, const std::string& purpose,
                                         const std::vector<OptionTable>& tables, std::vector<std::string> words) {
  NormalArguments arguments = normalize_arguments(std::move(words), rules_of(tables));
  std::string program = "flexgen-dist";
  std::vector<char*> argv{program.data()};
  for (std::string& word : arguments.words) argv.push_back(word.data());
  int argc = static_cast<int>(argv.size());
  argv.push_back(nullptr);
  char** all = argv.data();
  const std::string hint = "See flexgen-dist " + command + " --help";
  GivenOptions given{{}, arguments.config};
  try {
    cxxopts::Options parser = parser_of(command, purpose, tables);
    const cxxopts::ParseResult parsed = parser.parse(argc, all);
    if (parsed.count("help")) {
      std::fputs(parser.help().c_str(), stdout);
      return std::nullopt;
    }
    if (!parsed.unmatched().empty())
      throw UserError(ExitCode::usage, "'" + parsed.unmatched().front() + "' is not an option of " + command, "", hint);
    for (const OptionTable& table : tables)
      for (const OptionRow& row : table.rows)
        if (parsed.count(row.name)) {
          keep_values(parsed, row);
          given.names.insert(row.name);
        }
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {  // cxxopts' own hierarchy differs between its versions
    throw UserError(ExitCode::usage, error.what(), "", hint);
  }
  return given;
}

}  // namespace flexgen
