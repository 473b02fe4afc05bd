// What every rank has measured, in one pass of a job or several, as one report.
#pragma once

#include "batch/batch_driver.hpp"
#include "comm/communicator.hpp"
#include "engine/stage.hpp"
#include "job/report.hpp"

namespace flexgen {

/// What the driver counted.
SweepsReport sweeps_report(const BatchDriver& driver);

/// What this rank has measured, once its stage has nothing more to do.
RankReport rank_report(Stage& stage, const Communicator& ranks);

/// The model and the policy of a plan.
void describe_plan(const StagePlan& plan, Report& report);

/// A pass more: what was done is added, of memory the most counts.
void add_pass(SweepsReport& sum, const SweepsReport& pass);
void add_pass(RankReport& sum, const RankReport& pass);

/// Collective. Version and ranks are filled in on rank 0; the rest is the caller's.
/// @param own          this rank's, of all passes
/// @param run_seconds  in which sweeps ran
Report gather_report(RankReport own, double run_seconds, Communicator& ranks);

}  // namespace flexgen
