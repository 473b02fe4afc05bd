// Everything that would keep a job from running, or from running well, looked for on all ranks before it: facts of each
// rank, compared on rank 0; then clocks and links.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "comm/mpi_session.hpp"
#include "run/doctor/facts.hpp"
#include "run/doctor/finding.hpp"
#include "run/job_request.hpp"

namespace flexgen {

struct ExaminationRequest {
  ModelChoice model;  // without a name: no model is looked at
  MachineRequest machine;
  std::string output;  // the file of results; empty: none is looked at
};

/// What was found. Written as a report, too.
struct Diagnosis {
  int schema_version = 1;
  std::string program = "flexgen-dist";
  std::string verdict;
  int exit_code = 0;
  double seconds = 0;
  std::vector<CheckOutcome> checks;
  std::vector<RankFacts> ranks;
  std::vector<ClockFacts> clocks;
  std::vector<LinkFacts> links;
  static constexpr auto fields() {
    return std::tuple(field("schema_version", &Diagnosis::schema_version), field("program", &Diagnosis::program),
                      field("verdict", &Diagnosis::verdict), field("exit_code", &Diagnosis::exit_code),
                      field("seconds", &Diagnosis::seconds), field("checks", &Diagnosis::checks),
                      field("ranks", &Diagnosis::ranks), field("clocks", &Diagnosis::clocks),
                      field("links", &Diagnosis::links));
  }
};

/// Collective. `on_check` is told of every check on rank 0, as soon as it is done: what follows may hang. All ranks
/// return the exit code, rank 0 the rest, too. Ranks that run different programs are told nothing but that.
/// Throws UserError (communication) where two ranks do not reach each other.
Diagnosis examine(MpiSession& session, const ExaminationRequest& request,
                  const std::function<void(const CheckOutcome& check, std::span<const RankFacts> ranks)>& on_check);

/// A check as lines for people.
std::string check_text(const CheckOutcome& check, std::span<const RankFacts> ranks);

}  // namespace flexgen
