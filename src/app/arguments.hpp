// Brings a command line into the form that the option parser reads.
//
// FlexGen's command lines can be pasted: `--percent 20 80 0 100 0 100` takes six words, and a switch may be followed by
// true or false as a word of its own (`--overlap False`, `--pin-weight 0`). A JSON file (`--config FILE.json`) may hold
// any option; what stands on the command line wins.
#pragma once

#include <set>
#include <string>
#include <vector>

namespace flexgen {

struct ArgumentRules {
  std::set<std::string> switches;  // options without a value, or with true/false
  std::set<std::string> lists;     // options that take all numeric words that follow
};

/// @param words  the command line after the command's name
/// Throws UserError (usage, file) for a config file that cannot be read or is no JSON object of plain values, and for a
/// list without numbers.
std::vector<std::string> normalize_arguments(std::vector<std::string> words, const ArgumentRules& rules);

}  // namespace flexgen
