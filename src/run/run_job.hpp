// One job on all ranks, from a model and rows to a report: agree, plan, build, drive, report. What `generate`, `score`
// and `bench` share. Rows that a plan has no room for have a pass of their own: plan, build and drive again.
//
// Collective: every rank calls it with the same request; rows and callbacks matter on rank 0 alone.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "batch/row.hpp"
#include "comm/mpi_session.hpp"
#include "job/live_counts.hpp"
#include "job/report.hpp"
#include "run/job_request.hpp"
#include "run/rows/job_rows.hpp"
#include "spec/model_spec.hpp"
#include "spec/policy.hpp"
#include "weights/weight_source.hpp"

namespace flexgen {

struct JobInput {
  std::string command;
  ModelSpec model;
  /// Makes this rank's source, in every pass; called once the policy is known to fit.
  std::function<std::shared_ptr<WeightSource>()> make_source;
  JobRows* rows = nullptr;       // rank 0's, null elsewhere; must outlive the job
  RowCallbacks callbacks;        // rank 0's
  LiveCounts* counts = nullptr;  // rank 0's: callbacks count rows and tokens there; must outlive the job
  /// Rank 0: loading is over; this is how the pass at hand runs.
  std::function<void(const Policy&)> on_start;
  bool stops_early = false;              // an interrupt lets the sweeps under way end; equal on all ranks
  std::function<JobReport()> count_job;  // rank 0: what has run, asked for at the end
};

/// Returns the report on rank 0, an empty one elsewhere. Writes `--trace`. What rows and callbacks throw ends the job
/// as an interrupt does: the sweeps under way end, then all ranks throw it as an AgreedError.
Report run_job(MpiSession& session, const JobRequest& request, const JobInput& input);

/// What the summary is to whoever runs a command: a remark on what was written, or the figures that were asked for.
enum class SummaryRole : std::uint8_t { remark, result };

/// Warns of rows that failed, where any did. Returns main's exit status.
int conclude_rows(std::uint64_t num_rows, std::uint64_t num_failed, const OutputFiles& files);

/// Rank 0's last words: the summary (a result goes to standard output, where nothing else does), `--report`, and how
/// many rows failed. Returns main's exit status.
int conclude(const Report& report, const OutputFiles& files, SummaryRole role);

}  // namespace flexgen
