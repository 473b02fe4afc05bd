// Values of options, read from the words that were given. Every error names its option and what is wanted.
//
// Pure functions. Throw UserError (usage).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "spec/dtype.hpp"

namespace flexgen {

std::int64_t whole_number(const std::string& option, const std::string& word);
/// From 1 to what 32 bits hold.
std::int32_t positive_number(const std::string& option, const std::string& word);
/// Finite; a comma is no decimal point.
double real_number(const std::string& option, const std::string& word);
/// Above 0, at most `most`.
double real_number_to(const std::string& option, const std::string& word, double most);
/// Of real numbers, with commas or white space between them.
std::vector<double> number_list(const std::string& option, const std::string& words);
/// "15GiB", in bytes.
std::uint64_t size_in_bytes(const std::string& option, const std::string& word);
DType data_type(const std::string& option, const std::string& word);
std::string one_of(const std::string& option, const std::string& word, const std::vector<const char*>& known);

/// The words of a list: "20,80" and "20 80" have two.
std::vector<std::string> split_list(const std::string& words);
bool is_real_number(const std::string& word);
/// true, yes, 1, ... in any capitals, as FlexGen's own switches take them; nothing for other words.
std::optional<bool> truth(std::string word);

}  // namespace flexgen
