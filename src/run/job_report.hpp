// Gathers what every rank measured into one report.
#pragma once

#include "batch/batch_driver.hpp"
#include "comm/communicator.hpp"
#include "engine/stage.hpp"
#include "job/report.hpp"

namespace flexgen {

/// What the driver counted.
SweepsReport sweeps_report(const BatchDriver& driver);

/// Collective. Model, policy and ranks are filled in on rank 0; job and timing are the caller's.
/// @param run_seconds  from the first sweep to the end
Report gather_report(Stage& stage, double run_seconds, Communicator& ranks);

}  // namespace flexgen
