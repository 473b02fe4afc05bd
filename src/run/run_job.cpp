#include "run/run_job.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <optional>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "base/log.hpp"
#include "batch/batch_driver.hpp"
#include "comm/exchange.hpp"
#include "comm/launch_environment.hpp"
#include "engine/stage.hpp"
#include "job/figure_file.hpp"
#include "job/file_descriptor.hpp"
#include "job/metrics_text.hpp"
#include "job/page/report_page.hpp"
#include "policy/block_limits.hpp"
#include "run/interrupt.hpp"
#include "run/job_report.hpp"
#include "run/job_roofline.hpp"
#include "run/machine.hpp"
#include "run/policy_choice.hpp"
#include "run/transports.hpp"
#include "run/version.hpp"
#include "run/watch/counted_sweeps.hpp"
#include "run/watch/job_watch.hpp"
#include "run/watch/metrics_server.hpp"

namespace flexgen {
namespace {

using OnError = std::function<void(std::exception_ptr)>;

double seconds_since(std::uint64_t begin_ns) { return static_cast<double>(now_ns() - begin_ns) / 1e9; }

// What all ranks know of the job before memory is taken; budgets are each rank's own.
struct AgreedJob {
  Device device;
  JobShape shape;
  std::vector<std::optional<LoadedProfile>> profiles;  // by rank
  Budgets budgets;
  JobPolicy policy;
  std::string transport;  // empty for a single rank
  bool hidden_through_host = false;

  JobOutline outline(const ModelSpec& model) const { return {model, shape, device, transport, hidden_through_host}; }
};

AgreedJob agree_on_job(const JobRequest& request, const JobInput& input, Communicator& ranks) {
  AgreedJob job;
  job.device = agree_on_device(request.machine, ranks);
  share_processors(ranks, job.device.is_cuda() && request.policy.cpu_attention_percent.value_or(0) > 0);
  job.shape = share(ranks, input.shape);
  job.profiles = gather_profiles(request.machine.profile, ranks);
  ranks.agree_on_error([&] { job.budgets = choose_budgets(request.machine, job.device, ranks); });
  if (ranks.size() > 1) {
    const bool by_nccl = job.device.is_cuda() && wants_nccl(request.machine.transport, job.device, ranks);
    job.transport = by_nccl ? "nccl" : "mpi";
    job.hidden_through_host = job.device.is_cuda() && !by_nccl;
  }
  job.policy = choose_policy(request.policy, job.outline(input.model), job.budgets, job.profiles, ranks);
  for (std::size_t r = 0; r < job.policy.stages.size(); ++r)
    ranks.all_equal("the policy", to_flags(job.policy.of_rank(r)));
  return job;
}

StageConfig plan_stage(const JobRequest& request, const ModelSpec& model, const AgreedJob& job, int rank) {
  StageConfig config;
  const auto own = static_cast<std::size_t>(rank);
  config.plan.bounds = slice_bounds(job.policy.slices, own);
  config.plan.input = job.outline(model).stage_input(job.policy, own);
  config.plan.memory = plan_memory(config.plan.input, job.budgets);
  config.budgets = job.budgets;
  config.device = job.device;
  config.offload_dir = request.machine.offload_dir;
  config.keep_trace_events = !request.files.trace.empty();
  return config;
}

std::unique_ptr<Stage> build_stage(StageConfig& config, const JobInput& input, Communicator& ranks) {
  log::info(fmt::format("{} rank{} on {}; loading", ranks.size(), ranks.size() == 1 ? "" : "s",
                        device_description(config.device)));
  std::unique_ptr<Stage> stage;
  ranks.agree_on_error([&] {
    config.source = input.make_source();
    stage = std::make_unique<Stage>(config);
  });
  ranks.barrier();
  return stage;
}

// Rank 0 turns rows into sweeps, the others serve them.
SweepsReport drive(Stage& stage, const JobInput& input, const AgreedJob& job, const OnError& on_error) {
  CountedSweeps runner(stage, *input.counts);
  const Policy policy = job.policy.of_rank(0);
  BatchDriver driver(runner, policy, block_limits(policy, job.shape), input.model.eos_tokens);
  try {
    if (input.on_start) input.on_start(policy);
    driver.run(*input.rows, input.callbacks);
  } catch (...) {
    // The stage's workers may be waiting for other ranks: those must hear of it before the stage is taken down.
    on_error(std::current_exception());
    throw;
  }
  return sweeps_report(driver);
}

void tell_other_ranks(MpiSession& session, std::exception_ptr error) {
  if (session.communicator().size() == 1) return;  // the exception itself says it
  remove_file_left_empty();                        // nothing is destroyed in an abort
  try {
    std::rethrow_exception(std::move(error));
  } catch (const Error& known) {
    session.abort_job(known.what(), known.code());
  } catch (const std::exception& other) {
    session.abort_job(other.what(), ExitCode::internal);
  }
}

// What all that watch are told from the beginning on.
LiveFigures begin_figures(const JobInput& input, const Communicator& ranks) {
  LiveFigures figures;
  figures.version = version_text();
  figures.command = input.command;
  figures.model = input.model.name;
  figures.num_ranks = ranks.size();
  return figures;
}

// Before anything is loaded: a port that is taken must not come to light later.
std::unique_ptr<MetricsServer> open_metrics(const OutputFiles& files, const LiveFigures& figures, Communicator& ranks) {
  std::unique_ptr<MetricsServer> server;
  ranks.agree_on_error([&] {
    if (files.metrics_port == 0 || ranks.rank() != 0) return;
    server = std::make_unique<MetricsServer>(files.metrics_address, files.metrics_port);
    server->publish(metrics_text(figures));
  });
  return server;
}

// Rank 0 tells what the ranks have seen.
void add_watched(Report& report, WatchReport own, const OutputFiles& files, Communicator& ranks) {
  if (files.page.empty()) own.activity = {};
  std::vector<WatchReport> all = gather(ranks, own);
  if (ranks.rank() != 0) return;
  for (std::size_t r = 0; r < all.size(); ++r) {
    report.ranks[r].energy = std::move(all[r].energy);
    report.ranks[r].activity = std::move(all[r].activity);
  }
}

void gather_trace(const std::string& path, Stage& stage, std::uint64_t origin_ns, Communicator& ranks) {
  const std::vector<std::string> events =
      ranks.all_gather(chrome_trace_events(stage.tracer().events(), ranks.rank(), origin_ns));
  if (ranks.rank() == 0) write_trace(path, events);
}

}  // namespace

Report run_job(MpiSession& session, const JobRequest& request, const JobInput& input) {
  Communicator& ranks = session.communicator();
  ranks.all_equal("the program's version", version_text());
  ranks.all_equal("the model", fingerprint(input.model));
  const LiveFigures figures = begin_figures(input, ranks);
  const std::unique_ptr<MetricsServer> server = open_metrics(request.files, figures, ranks);
  const std::uint64_t begin_ns = now_ns();
  const AgreedJob job = agree_on_job(request, input, ranks);
  const std::unique_ptr<Transport> transport = open_transport(session, request.machine.transport, job.device);
  StageConfig config = plan_stage(request, input.model, job, ranks.rank());
  config.transport = transport.get();
  config.on_error = [&session](std::exception_ptr error) { tell_other_ranks(session, std::move(error)); };
  std::unique_ptr<Stage> stage = build_stage(config, input, ranks);
  TimingReport timing;
  timing.load_seconds = seconds_since(begin_ns);

  const std::uint64_t start_ns = now_ns();
  SweepsReport sweeps;
  const bool is_shown = ranks.rank() == 0 && !request.files.quiet;
  JobWatch watch(*stage, {ranks.host(), figures, input.counts, server.get(), is_shown});
  const bool is_told_by_launcher = input.stops_early && ranks.size() > 1 && ranks.rank() == 0;
  if (input.stops_early) stop_on_interrupt(ranks.size() > 1 ? Launch::ranks : Launch::alone);
  if (is_told_by_launcher) offer_early_stop(ranks.host());
  if (ranks.rank() == 0) sweeps = drive(*stage, input, job, config.on_error);
  else stage->serve();
  if (is_told_by_launcher) withdraw_early_stop();
  no_stop_on_interrupt();
  timing.total_seconds = seconds_since(start_ns);
  WatchReport watched = watch.finish();
  timing.prefill_seconds = sweeps.prefill.seconds;
  timing.decode_seconds = sweeps.decode.seconds;
  timing.mixed_seconds = sweeps.mixed.seconds;

  if (!request.files.trace.empty()) gather_trace(request.files.trace, *stage, start_ns, ranks);
  Report report = gather_report(*stage, seconds_since(start_ns), ranks);
  add_watched(report, std::move(watched), request.files, ranks);
  report.command = input.command;
  report.timing = timing;
  report.sweeps = sweeps;
  if (ranks.rank() == 0) {
    report.job = input.count_job();
    report.throughput = measure_throughput(report.job, report.timing, sweeps.saved_prompt_tokens);
    add_roofline(report, {input.model, job.policy, job.shape, job.profiles, job.device, *transport, ranks});
  }
  stage.reset();
  ranks.barrier();  // no rank tears its links down while another still uses them
  return report;
}

int conclude_rows(std::uint64_t num_rows, std::uint64_t num_failed, const OutputFiles& files) {
  if (num_failed == 0) return static_cast<int>(ExitCode::ok);
  log::warn(fmt::format("{} of {} rows failed{}", num_failed, num_rows,
                        files.output.empty() ? "" : "; their errors stand in " + files.errors_to()));
  return static_cast<int>(ExitCode::rows_failed);
}

int conclude(const Report& report, const OutputFiles& files, SummaryRole role) {
  const bool to_stdout = role == SummaryRole::result && !files.use_stdout();
  // Nobody may be listening: that is no reason for a job to fail that is done.
  if (!files.quiet) write_fully(to_stdout ? STDOUT_FILENO : STDERR_FILENO, summary(report));
  if (!files.report.empty()) write_report(report, files.report);
  if (!files.page.empty()) write_report_page(report, files.page);
  return conclude_rows(report.job.rows, report.job.failed_rows, files);
}

}  // namespace flexgen
