// `flexgen-dist plan`: a job planned on the machines of the ranks, or on others, as a report.
#pragma once

#include <string>

#include "comm/communicator.hpp"
#include "run/job_request.hpp"
#include "run/planning/plan_text.hpp"
#include "spec/model_spec.hpp"

namespace flexgen {

struct JobToPlan {
  ModelSpec model;
  JobShape shape;         // rank 0's counts
  std::string profiles;   // of machines that are not here; empty: those of the ranks
  bool explains = false;  // the policy of the request, beside the plan
  bool asks_more = true;  // what more of something would bring
};

struct PlannedReport {
  PlanReport report;
  JobPolicy best;  // without stages where nothing fits
};

/// Collective; the report is rank 0's. Throws UserError (usage): machines without a profile, flags that contradict
/// each other.
PlannedReport plan_for_report(const JobRequest& request, const JobToPlan& job, Communicator& ranks);

/// As write_figure_file.
void write_plan(const PlanReport& report, const std::string& path);

}  // namespace flexgen
