// What `verify` has found, for people and for programs. Plain data; documented in src/job/REPORT.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/fields.hpp"
#include "run/verify/comparison.hpp"

namespace flexgen {

/// How a run was done.
struct VerifiedPolicy {
  std::string dtype;
  std::string flags;  // of rank 0, as they would stand on a command line
  static constexpr auto fields() {
    return std::tuple(field("dtype", &VerifiedPolicy::dtype), field("flags", &VerifiedPolicy::flags));
  }
};

struct VerifyReport {
  int schema_version = 1;
  std::string program = "flexgen-dist", version, command = "verify";
  std::string model;
  int ranks = 1;
  std::uint64_t rows = 0, sequences = 0;      // that were verified
  std::uint64_t read_rows = 0, bad_rows = 0;  // of the input; that cannot run
  VerifiedPolicy policy, reference;
  std::string closeness;  // closeness_name()
  double tie_margin = 0;
  std::optional<double> max_perplexity_increase;  // percent
  Comparison comparison;
  bool passes = false;
  std::vector<std::string> reasons;  // why not
  std::vector<std::string> notes;    // what the figures leave out
  static constexpr auto fields() {
    return std::tuple(field("schema_version", &VerifyReport::schema_version), field("program", &VerifyReport::program),
                      field("version", &VerifyReport::version), field("command", &VerifyReport::command),
                      field("model", &VerifyReport::model), field("ranks", &VerifyReport::ranks),
                      field("rows", &VerifyReport::rows), field("sequences", &VerifyReport::sequences),
                      field("read_rows", &VerifyReport::read_rows), field("bad_rows", &VerifyReport::bad_rows),
                      field("policy", &VerifyReport::policy), field("reference", &VerifyReport::reference),
                      field("closeness", &VerifyReport::closeness), field("tie_margin", &VerifyReport::tie_margin),
                      field("max_perplexity_increase", &VerifyReport::max_perplexity_increase),
                      field("comparison", &VerifyReport::comparison), field("passes", &VerifyReport::passes),
                      field("reasons", &VerifyReport::reasons), field("notes", &VerifyReport::notes));
  }
};

/// A table of some lines, each with its newline.
std::string verify_text(const VerifyReport& report);

/// As JSON, through write_figure_file. Throws UserError (file).
void write_verify_report(const VerifyReport& report, const std::string& path);

}  // namespace flexgen
