// Brings a command line into the form that the option parser reads.
//
// FlexGen's command lines can be pasted: `--percent 20 80 0 100 0 100` takes six words (or one, in quotes), and a
// switch may be followed by true or false as a word of its own (`--overlap False`, `--pin-weight 0`). Names of files
// may follow each other (`--input a.jsonl b.csv`), or stand each behind the option (`--input a --input b`). A JSON file
// (`--config FILE.json`) may hold any option; what stands on the command line wins.
#pragma once

#include <set>
#include <string>
#include <vector>

namespace flexgen {

struct ArgumentRules {
  std::set<std::string> switches;  // options without a value, or with true/false
  std::set<std::string> lists;     // options that take all numeric words that follow
  std::set<std::string> files;     // options that take all words that follow: each word becomes a use of its own
};

struct NormalArguments {
  std::vector<std::string> words;
  std::string config;  // the file of --config; empty: there is none
};

/// @param words  the command line after the command's name
/// Throws UserError (usage, file) for a config file that cannot be read, is no JSON object of plain values or names an
/// option twice, for a list without numbers and for a switch that is neither true nor false.
NormalArguments normalize_arguments(std::vector<std::string> words, const ArgumentRules& rules);

}  // namespace flexgen
