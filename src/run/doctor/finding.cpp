#include "run/doctor/finding.hpp"

#include <fmt/core.h>

#include <algorithm>

namespace flexgen {
namespace {

Finding make(FindingLevel level, std::vector<int> ranks, std::string what, std::string why, std::string what_to_do) {
  return {level, std::move(ranks), std::move(what), std::move(why), std::move(what_to_do)};
}

bool say_the_same(const Finding& a, const Finding& b) {
  return a.level == b.level && a.what == b.what && a.why == b.why && a.what_to_do == b.what_to_do &&
         a.exit_code == b.exit_code && a.ranks.empty() == b.ranks.empty();
}

std::string count(std::size_t number, std::string_view name) {
  return fmt::format("{} {}{}", number, name, number == 1 ? "" : "s");
}

}  // namespace

std::string_view level_name(FindingLevel level) {
  switch (level) {
    case FindingLevel::ok: return "ok";
    case FindingLevel::note: return "note";
    case FindingLevel::warning: return "warning";
    case FindingLevel::fault: break;
  }
  return "fault";
}

Finding note(std::vector<int> ranks, std::string what, std::string why, std::string what_to_do) {
  return make(FindingLevel::note, std::move(ranks), std::move(what), std::move(why), std::move(what_to_do));
}

Finding warning(std::vector<int> ranks, std::string what, std::string why, std::string what_to_do) {
  return make(FindingLevel::warning, std::move(ranks), std::move(what), std::move(why), std::move(what_to_do));
}

Finding fault(ExitCode code, std::vector<int> ranks, std::string what, std::string why, std::string what_to_do) {
  Finding found = make(FindingLevel::fault, std::move(ranks), std::move(what), std::move(why), std::move(what_to_do));
  found.exit_code = static_cast<int>(code);
  return found;
}

std::vector<Finding> join_equal(std::vector<Finding> findings) {
  std::vector<Finding> joined;
  for (Finding& finding : findings) {
    const auto same = std::ranges::find_if(joined, [&](const Finding& one) { return say_the_same(one, finding); });
    if (same == joined.end()) joined.push_back(std::move(finding));
    else same->ranks.insert(same->ranks.end(), finding.ranks.begin(), finding.ranks.end());
  }
  return joined;
}

FindingLevel CheckOutcome::level() const {
  FindingLevel worst = FindingLevel::ok;
  for (const Finding& finding : findings) worst = std::max(worst, finding.level);
  return worst;
}

Verdict verdict_of(const std::vector<CheckOutcome>& checks) {
  std::size_t num_faults = 0, num_warnings = 0;
  Verdict verdict;
  for (const CheckOutcome& check : checks)
    for (const Finding& finding : check.findings) {
      num_warnings += finding.level == FindingLevel::warning;
      if (finding.level != FindingLevel::fault) continue;
      if (num_faults++ == 0) verdict.exit_code = finding.exit_code;
    }
  if (num_faults > 0) verdict.text = fmt::format("not ready: {}", count(num_faults, "fault"));
  else verdict.text = "ready";
  if (num_warnings > 0)
    verdict.text += fmt::format("{} {}", num_faults > 0 ? " and" : ", with", count(num_warnings, "warning"));
  return verdict;
}

}  // namespace flexgen
