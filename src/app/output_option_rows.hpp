// The options that say where results, figures and words go, as rows of a table.
#pragma once

#include <vector>

#include "app/option_table.hpp"
#include "base/log.hpp"
#include "run/job_request.hpp"

namespace flexgen {

OptionRow log_level_row(log::Level& to);
/// Figures, metrics and the log.
std::vector<OptionRow> output_rows(OutputFiles& files, MachineRequest& machine);

/// Of plan and verify: the profile, the report, and words.
std::vector<OptionRow> plan_output_rows(OutputFiles& files, MachineRequest& machine);

}  // namespace flexgen
