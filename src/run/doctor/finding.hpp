// What the doctor says: findings, the checks that they belong to, and the verdict over all of them.
//
// Plain data and pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "base/fields.hpp"

namespace flexgen {

enum class FindingLevel : std::uint8_t {
  ok,       // of a check: nothing was found
  note,     // good to know
  warning,  // a job runs, but slower than it could, or less safely
  fault,    // a job ends with an error
};

/// "ok", "note", ...
std::string_view level_name(FindingLevel level);
/// In JSON a level stands as its name (base/json_fields.hpp).
template <class J>
void to_json(J& to, FindingLevel level) {
  to = level_name(level);
}

/// One thing that was found. `ranks` in order; empty: it is about all of them together.
struct Finding {
  FindingLevel level = FindingLevel::note;
  std::vector<int> ranks;
  std::string what, why, what_to_do;
  int exit_code = 0;  // of a fault: what a job would end with
  static constexpr auto fields() {
    return std::tuple(field("level", &Finding::level), field("ranks", &Finding::ranks), field("what", &Finding::what),
                      field("why", &Finding::why), field("what_to_do", &Finding::what_to_do),
                      field("exit_code", &Finding::exit_code));
  }
};

Finding note(std::vector<int> ranks, std::string what, std::string why, std::string what_to_do = "");
Finding warning(std::vector<int> ranks, std::string what, std::string why, std::string what_to_do);
Finding fault(ExitCode code, std::vector<int> ranks, std::string what, std::string why, std::string what_to_do);

/// Findings that say the same of several ranks become one; the order stays that of their first.
std::vector<Finding> join_equal(std::vector<Finding> findings);

/// One check: what it looked at, what it found, and how long that took on the slowest rank.
struct CheckOutcome {
  std::string name;  // "disk"
  double seconds = 0;
  std::vector<std::string> seen;  // lines that say what is there
  std::vector<Finding> findings;
  static constexpr auto fields() {
    return std::tuple(field("name", &CheckOutcome::name), field("seconds", &CheckOutcome::seconds),
                      field("seen", &CheckOutcome::seen), field("findings", &CheckOutcome::findings));
  }

  /// The worst of its findings.
  FindingLevel level() const;
};

struct Verdict {
  std::string text;   // "ready, with 2 warnings"
  int exit_code = 0;  // 0 without a fault, else that of the first one
};
Verdict verdict_of(const std::vector<CheckOutcome>& checks);

}  // namespace flexgen
