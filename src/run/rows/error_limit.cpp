#include "run/rows/error_limit.hpp"

#include <fmt/core.h>

#include <charconv>

#include "base/error.hpp"

namespace flexgen {
namespace {

template <class Number>
std::optional<Number> number_in(std::string_view word) {
  Number number{};
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  return error == std::errc() && end == word.data() + word.size() ? std::optional(number) : std::nullopt;
}

}  // namespace

ErrorLimit ErrorLimit::parse(const std::string& option, const std::string& word) {
  ErrorLimit limit;
  if (word.ends_with('%')) limit.most_percent = number_in<double>(std::string_view(word).substr(0, word.size() - 1));
  else limit.most_rows = number_in<std::uint64_t>(word);
  const bool is_share = limit.most_percent && *limit.most_percent >= 0 && *limit.most_percent < 100;
  if (!limit.most_rows && !is_share)
    throw UserError(ExitCode::usage, fmt::format("--{} {} is no limit", option, word), "",
                    "Give a number of rows, 0 or more, or a share of them, as 5%");
  return limit;
}

void ErrorLimit::check(std::uint64_t num_failed, std::uint64_t num_rows, const std::string& last) const {
  const bool too_many = most_rows && num_failed > *most_rows;
  const bool too_large_a_share = most_percent && num_rows >= least_rows &&
                                 static_cast<double>(num_failed) * 100 > *most_percent * static_cast<double>(num_rows);
  if (!too_many && !too_large_a_share) return;
  throw UserError(ExitCode::rows_failed,
                  fmt::format("the job has ended early: {} of its first {} rows failed", num_failed, num_rows),
                  too_many ? fmt::format("--max-row-errors allows {}", *most_rows)
                           : fmt::format("--max-row-errors allows {}%", *most_percent),
                  fmt::format("The last error was \"{}\". Results so far are kept", last));
}

}  // namespace flexgen
