#include "app/output_option_rows.hpp"

#include <fmt/core.h>

#include "app/option_values.hpp"
#include "base/error.hpp"

namespace flexgen {
namespace {

// By its ending a page for people, else figures for programs: one of each.
OptionValue reports_into(OutputFiles& files) {
  return into::repeated([&files](const std::string& option, const std::string& word) {
    const bool is_page = word.ends_with(".html") || word.ends_with(".htm");
    std::string& to = is_page ? files.page : files.report;
    if (!to.empty())
      throw UserError(ExitCode::usage, fmt::format("--{} names two {}", option, is_page ? "pages" : "JSON files"),
                      fmt::format("'{}' and '{}'", to, word), "Give one page (.html) and one other file at most");
    to = word;
  });
}

OptionValue port_into(std::int32_t& to) {
  return into::word("", [&to](const std::string& option, const std::string& word) {
    to = positive_number(option, word);
    if (to > 65535)
      throw UserError(ExitCode::usage, fmt::format("--{} {} is no port", option, word), "ports end at 65535");
  });
}

}  // namespace

OptionRow log_level_row(log::Level& to) {
  const auto keep = [&to](const std::string& option, const std::string& word) {
    to = log::parse_level(one_of(option, word, {"debug", "info", "warn", "error"}));
  };
  return {"log-level", "LEVEL", into::word("info", keep), "debug | info | warn | error"};
}

std::vector<OptionRow> output_rows(OutputFiles& files, MachineRequest& machine) {
  return {
      {"profile", "FILE", into::text(machine.profile),
       "hardware profile for plan and roofline; default: this machine's own (see flexgen-dist profile)"},
      {"measure", "WHEN", into::one_of({"auto", "always", "never"}, machine.measure),
       "quickly, before a policy is planned: auto (a machine without a profile, for a large job) | always (anew) | "
       "never"},
      {"replan", "", into::on_off(machine.replan),
       "where the first sweeps differ from the plan: correct the ceiling that was wrong in this machine's profile, and "
       "bring as many tokens a sweep as then is fastest"},
      {"report", "FILE", reports_into(files),
       "write figures: a page to look at where FILE ends in .html, else JSON (- is standard output); may be given "
       "twice"},
      {"trace", "FILE", into::text(files.trace), "write a Chrome trace; - is standard output"},
      {"metrics-port", "N", port_into(files.metrics_port),
       "serve Prometheus metrics at http://127.0.0.1:N/metrics while the job runs (rank 0)"},
      {"metrics-address", "ADDRESS", into::text(files.metrics_address),
       "where they are served, e.g. 0.0.0.0: to all of the network [127.0.0.1]"},
      {"quiet", "", into::on_off(files.quiet), "no log, no progress, no summary; errors and warnings stay"},
      log_level_row(files.log_level),
  };
}

std::vector<OptionRow> plan_output_rows(OutputFiles& files, MachineRequest& machine) {
  return {
      {"profile", "FILE", into::text(machine.profile),
       "hardware profile; default: this machine's own (see flexgen-dist profile)"},
      {"report", "FILE", into::text(files.report), "write the figures as JSON; - is standard output"},
      {"quiet", "", into::on_off(files.quiet), "no log and no text; errors and warnings stay"},
      log_level_row(files.log_level),
  };
}

}  // namespace flexgen
