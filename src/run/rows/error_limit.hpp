// How many rows of a job may fail before it is ended: --max-row-errors. Plain data.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace flexgen {

struct ErrorLimit {
  static constexpr std::uint64_t least_rows = 100;  // before a share is judged

  std::optional<std::uint64_t> most_rows;
  std::optional<double> most_percent;  // of the rows so far

  /// "20" or "5%"; throws UserError (usage).
  static ErrorLimit parse(const std::string& option, const std::string& word);
  /// Throws UserError (rows_failed) where more have failed.
  /// @param num_rows  so far, failed ones included
  /// @param last      what was wrong with the last of them
  void check(std::uint64_t num_failed, std::uint64_t num_rows, const std::string& last) const;
};

}  // namespace flexgen
