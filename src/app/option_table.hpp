// Options as rows of tables: a row says an option's name, what its help shows, and how its value is checked and where
// it goes. Everything that is known of one option stands in its row.
//
// Rows refer to the structs that they fill: a table lives no longer than those.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace flexgen {

/// Checks the words of an option and keeps what they say; throws UserError (usage). A default that the help shows is
/// what the target holds when the row is made.
struct OptionValue {
  enum class Form : std::uint8_t { word, on_off, list, files, repeated };
  Form form = Form::word;
  std::string shown_default;  // empty: the help shows none
  std::function<void(const std::string& option, const std::string& word)> keep;
};

/// The kinds of values, each into its target.
namespace into {

OptionValue text(std::string& to);
OptionValue on_off(bool& to);
OptionValue on_off(std::optional<bool>& to);
/// From 1 to what 32 bits hold. A target of 0 means that nothing was given.
OptionValue positive(std::int32_t& to);
OptionValue positive(std::optional<std::int32_t>& to);
/// The same in 64 bits.
OptionValue count(std::int64_t& to);
/// Above 0, at most `most`.
OptionValue number_to(double most, double& to);
/// "15GiB".
OptionValue bytes(std::optional<std::uint64_t>& to);
OptionValue one_of(std::initializer_list<const char*> known, std::string& to);
/// A word that `keep` understands.
OptionValue word(std::string shown_default,
                 std::function<void(const std::string& option, const std::string& word)> keep);
/// All numbers that follow, with commas between them.
OptionValue list(std::function<void(const std::string& option, const std::string& words)> keep);

/// All words that follow, and those behind the option where it stands again.
OptionValue files(std::vector<std::string>& to);

/// A word that `keep` understands, as often as the option is given.
OptionValue repeated(std::function<void(const std::string& option, const std::string& word)> keep);

}  // namespace into

struct OptionRow {
  const char* name;
  const char* hint;  // what the help shows for its value
  OptionValue value;
  const char* help;
};

struct OptionTable {
  std::string title;  // of its part of the help; may be empty
  std::vector<OptionRow> rows;
};

/// What a command line gave, its config file included.
struct GivenOptions {
  std::set<std::string> names;
  std::string config;  // that file; empty: there was none

  bool has(const char* name) const { return names.contains(name); }
};

/// Reads a command's words by its tables, to which --config and --help are added at the end. Empty when help was asked
/// for and printed. Throws UserError: usage for an unknown option or a bad value, and as normalize_arguments.
/// @param command  "generate", as messages name it
/// @param purpose  what the help says first
std::optional<GivenOptions> read_options(const std::string& command, const std::string& purpose,
                                         const std::vector<OptionTable>& tables, std::vector<std::string> words);

}  // namespace flexgen
