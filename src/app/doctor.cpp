#include <fmt/core.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "app/commands.hpp"
#include "base/json_fields.hpp"
#include "job/figure_file.hpp"
#include "job/file_descriptor.hpp"
#include "run/doctor/examination.hpp"

namespace flexgen {
namespace {

void write_diagnosis(const Diagnosis& diagnosis, const std::string& path) {
  const std::string text = nlohmann::ordered_json::parse(to_json_text(diagnosis)).dump(2) + "\n";
  write_figure_file(path, {text}, FigureKind::diagnosis, "--report");
}

std::string verdict_text(const Diagnosis& diagnosis) {
  std::string text = fmt::format("verdict: {} ({:.1f} s)", diagnosis.verdict, diagnosis.seconds);
  if (diagnosis.exit_code != 0) text += fmt::format("; a job would end with exit code {}", diagnosis.exit_code);
  return text + "\n";
}

}  // namespace

// The table is the command's result: it goes to standard output, unless the report does.
int run_doctor(MpiSession& session, const Options& options) {
  const int to = options.files.use_stdout() ? STDERR_FILENO : STDOUT_FILENO;
  const auto show = [&](const CheckOutcome& check, std::span<const RankFacts> ranks) {
    if (!options.files.quiet || check.level() > FindingLevel::note) write_fully(to, check_text(check, ranks));
  };
  const Diagnosis diagnosis = examine(session, {options.model, options.machine, options.files.output}, show);
  Communicator& ranks = session.communicator();
  ranks.agree_on_error([&] {
    if (ranks.rank() != 0) return;
    write_fully(to, verdict_text(diagnosis));
    if (!options.files.report.empty()) write_diagnosis(diagnosis, options.files.report);
  });
  return diagnosis.exit_code;
}

}  // namespace flexgen
