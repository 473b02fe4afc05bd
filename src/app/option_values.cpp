#include "app/option_values.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <limits>
#include <sstream>

#include "base/bytes.hpp"
#include "base/error.hpp"

namespace flexgen {
namespace {

[[noreturn]] void refuse_value(const std::string& option, const std::string& word, const std::string& why,
                               const std::string& wanted = "") {
  throw UserError(ExitCode::usage, fmt::format("--{} {} {}", option, word.empty() ? "''" : word, why), "", wanted);
}

}  // namespace

std::int64_t whole_number(const std::string& option, const std::string& word) {
  std::int64_t number = 0;
  const char* end = word.data() + word.size();
  const auto [rest, error] = std::from_chars(word.data(), end, number);
  if (error == std::errc::result_out_of_range && rest == end) refuse_value(option, word, "is too large a number");
  if (error != std::errc() || rest != end)
    refuse_value(option, word, "is not a whole number", fmt::format("Give digits alone, for example --{} 32", option));
  return number;
}

std::int32_t positive_number(const std::string& option, const std::string& word) {
  const std::int64_t number = whole_number(option, word);
  if (number > std::numeric_limits<std::int32_t>::max()) refuse_value(option, word, "is too large a number");
  if (number >= 1) return static_cast<std::int32_t>(number);
  throw UserError(ExitCode::usage, fmt::format("--{} {} makes no sense", option, number), "it must be at least 1");
}

bool is_real_number(const std::string& word) {
  char* end = nullptr;
  const double number = std::strtod(word.c_str(), &end);
  return !word.empty() && *end == '\0' && std::isfinite(number);
}

double real_number(const std::string& option, const std::string& word) {
  if (is_real_number(word)) return std::strtod(word.c_str(), nullptr);
  refuse_value(option, word, "is not a number", fmt::format("For example --{} 0.5", option));
}

double real_number_to(const std::string& option, const std::string& word, double most) {
  const double number = real_number(option, word);
  if (number > 0 && number <= most) return number;
  throw UserError(ExitCode::usage, fmt::format("--{} {} makes no sense", option, number),
                  fmt::format("it must be above 0 and at most {}", most));
}

std::vector<std::string> split_list(const std::string& words) {
  std::string separated = words;
  std::replace(separated.begin(), separated.end(), ',', ' ');
  std::istringstream stream(separated);
  return {std::istream_iterator<std::string>(stream), {}};
}

std::vector<double> number_list(const std::string& option, const std::string& words) {
  const std::vector<std::string> given = split_list(words);
  if (given.empty()) refuse_value(option, words, "has no numbers");
  std::vector<double> numbers;
  numbers.reserve(given.size());
  for (const std::string& word : given) numbers.push_back(real_number(option, word));
  return numbers;
}

std::uint64_t size_in_bytes(const std::string& option, const std::string& word) {
  try {
    return parse_bytes(word);
  } catch (const UserError&) {
    refuse_value(option, word, "is not a size",
                 fmt::format("Give a number and a unit, for example --{0} 15GiB, --{0} 512MiB or --{0} 4096", option));
  }
}

DType data_type(const std::string& option, const std::string& word) {
  try {
    return parse_dtype(word);
  } catch (const UserError&) {
    refuse_value(option, word, "is not a data type that we run", "Use float32, float16 or bfloat16");
  }
}

std::string one_of(const std::string& option, const std::string& word, const std::vector<const char*>& known) {
  std::string list;
  for (const char* candidate : known) {
    if (word == candidate) return word;
    list += fmt::format("{}{}", list.empty() ? "" : ", ", candidate);
  }
  refuse_value(option, word, "is not known", "Use one of: " + list);
}

std::optional<bool> truth(std::string word) {
  std::transform(word.begin(), word.end(), word.begin(), [](unsigned char c) { return std::tolower(c); });
  for (const char* yes : {"true", "t", "yes", "y", "1"})
    if (word == yes) return true;
  for (const char* no : {"false", "f", "no", "n", "0"})
    if (word == no) return false;
  return std::nullopt;
}

}  // namespace flexgen
