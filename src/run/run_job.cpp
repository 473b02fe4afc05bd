#include "run/run_job.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <iterator>
#include <optional>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "base/foreign_error.hpp"
#include "base/log.hpp"
#include "batch/batch_driver.hpp"
#include "comm/exchange.hpp"
#include "comm/launch_environment.hpp"
#include "engine/stage.hpp"
#include "job/figure_file.hpp"
#include "job/file_descriptor.hpp"
#include "job/metrics_text.hpp"
#include "job/page/report_page.hpp"
#include "model/layer.hpp"
#include "policy/block_limits.hpp"
#include "run/interrupt.hpp"
#include "run/job_report.hpp"
#include "run/job_roofline.hpp"
#include "run/machine.hpp"
#include "run/measured_machine.hpp"
#include "run/policy_choice.hpp"
#include "run/transports.hpp"
#include "run/version.hpp"
#include "run/watch/counted_sweeps.hpp"
#include "run/watch/job_watch.hpp"
#include "run/watch/metrics_server.hpp"
#include "run/watch/plan_watch.hpp"

namespace flexgen {
namespace {

// What all ranks know of the job before memory is taken; budgets are each rank's own.
struct AgreedJob {
  Device device;
  JobShape shape;
  RankProfiles profiles;  // by rank
  Budgets budgets;
  JobPolicy policy;
  std::string transport;  // empty for a single rank
  bool hidden_through_host = false;

  JobOutline outline(const ModelSpec& model) const { return {model, shape, device, transport, hidden_through_host}; }
};

// All that the passes of a job have in common.
AgreedJob agree_on_job(const JobRequest& request, Communicator& ranks) {
  AgreedJob job;
  job.device = agree_on_device(request.machine, ranks);
  job.profiles = gather_profiles(request.machine.profile, ranks);
  ranks.agree_on_error([&] { job.budgets = choose_budgets(request.machine, job.device, ranks); });
  if (ranks.size() == 1) return job;
  const bool by_nccl = job.device.is_cuda() && wants_nccl(request.machine.transport, job.device, ranks);
  job.transport = by_nccl ? "nccl" : "mpi";
  job.hidden_through_host = job.device.is_cuda() && !by_nccl;
  return job;
}

// A plan wants to know the machines that it is for.
void agree_on_machines(const JobRequest& request, const JobInput& input, Transport& transport, Communicator& ranks,
                       AgreedJob& job) {
  const JobShape shape = input.rows ? input.rows->shape() : JobShape{};
  const double operations = 2.0 * static_cast<double>(num_parameters(input.model)) *
                            static_cast<double>(shape.prompt_tokens + shape.new_tokens);
  if (!request.policy.is_placed() && wants_measuring(request.machine, job.device, operations, job.profiles, ranks))
    measure_unknown_machines(request.machine, job.device, transport, ranks, job.profiles);
  lend_profiles(job.profiles);
}

bool asks_for_less(const JobInput& input, const AgreedError& misfit, Communicator& ranks) {
  bool does = false;
  ranks.agree_on_error([&] { does = input.rows && input.rows->plan_by_less(misfit.what()); });
  return ranks.broadcast(does ? "yes" : "no") == "yes";
}

// Of one pass. What rank 0's rows ask for is what fits, or what is left of it.
void agree_on_policy(const JobRequest& request, const JobInput& input, Communicator& ranks, AgreedJob& job) {
  for (bool is_chosen = false; !is_chosen;) {
    job.shape = share(ranks, input.rows ? input.rows->shape() : JobShape{});
    try {
      job.policy = choose_policy(request.policy, job.outline(input.model), job.budgets, job.profiles, ranks);
      is_chosen = true;
    } catch (const AgreedError& error) {
      if (error.code() != ExitCode::does_not_fit || !asks_for_less(input, error, ranks)) throw;
    }
  }
  ranks.all_equal("the policy", to_text(job.policy));
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

void tell_other_ranks(MpiSession& session, std::exception_ptr error) {
  if (session.communicator().size() == 1) return;  // the exception itself says it
  remove_file_left_empty();                        // nothing is destroyed in an abort
  try {
    std::rethrow_exception(std::move(error));
  } catch (const std::exception& exception) {
    const Error known = foreign_error(exception);
    session.abort_job(known.what(), known.code());
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

// Rank 0 under a launcher: SIGUSR1 is understood from now on, as long as this lives.
class EarlyStop {
 public:
  EarlyStop(const JobInput& input, const Communicator& ranks)
      : is_offered_(input.stops_early && ranks.size() > 1 && ranks.rank() == 0) {
    if (input.stops_early) stop_on_interrupt(ranks.size() > 1 ? Launch::ranks : Launch::alone);
    if (is_offered_) offer_early_stop(ranks.host());
  }
  EarlyStop(const EarlyStop&) = delete;
  EarlyStop& operator=(const EarlyStop&) = delete;
  ~EarlyStop() {
    if (is_offered_) withdraw_early_stop();
    no_stop_on_interrupt();
  }

 private:
  bool is_offered_;
};

// What the passes of a job have left, on one rank.
struct RanPasses {
  std::uint64_t count = 0;
  TimingReport timing;
  SweepsReport sweeps;  // rank 0's
  RankReport own;
  Report longest;  // model and policy alone, of the pass with the longest sweeps
  double longest_seconds = 0;
  std::uint64_t first_start_ns = 0;
  std::vector<std::string> trace_events;  // rank 0: of every rank and pass
};

// A job, pass by pass: every rank does the same at the same time.
class JobRun {
 public:
  JobRun(MpiSession& session, const JobRequest& request, const JobInput& input, WatchedJob watched);

  void run();
  Report report();

 private:
  void build();
  void run_pass();
  std::exception_ptr drive(SweepsReport& sweeps);
  void add_to_report(const SweepsReport& sweeps, double seconds);
  bool another_follows();
  void add_job(Report& report);

  MpiSession& session_;
  const JobRequest& request_;
  const JobInput& input_;
  Communicator& ranks_;
  WatchedJob watched_;
  AgreedJob job_;
  std::unique_ptr<Transport> transport_;
  RanPasses ran_;
  PlanWatch plan_watch_;
  std::unique_ptr<Stage> stage_;
  std::optional<EarlyStop> early_stop_;
  std::optional<JobWatch> watch_;  // last: looks at the stage
};

JobRun::JobRun(MpiSession& session, const JobRequest& request, const JobInput& input, WatchedJob watched)
    : session_(session),
      request_(request),
      input_(input),
      ranks_(session.communicator()),
      watched_(std::move(watched)),
      plan_watch_(request, ranks_) {
  const std::uint64_t begin_ns = now_ns();
  job_ = agree_on_job(request, ranks_);
  transport_ = open_transport(session, request.machine.transport, job_.device);
  agree_on_machines(request, input, *transport_, ranks_, job_);
  share_processors(ranks_, job_.device.is_cuda() && request.policy.wants_host_attention());
  share_machines(job_.profiles, ranks_);
  ran_.timing.load_seconds = seconds_since(begin_ns);
}

void JobRun::run() {
  do {
    const std::uint64_t begin_ns = now_ns();
    plan_watch_.correct(job_.profiles, job_.device.is_cuda());
    agree_on_policy(request_, input_, ranks_, job_);
    if (ran_.count > 0 && job_.shape.num_rows == 0) return;  // none of the rows that were left fits
    plan_watch_.plan(job_.outline(input_.model), job_.policy, job_.budgets, job_.profiles);
    build();
    ran_.timing.load_seconds += seconds_since(begin_ns);
    run_pass();
  } while (another_follows());
}

void JobRun::build() {
  StageConfig config = plan_stage(request_, input_.model, job_, ranks_.rank());
  config.transport = transport_.get();
  config.on_sweep = [this](const SweepWork& work) { plan_watch_.begin_sweep(work); };
  config.on_error = [this](std::exception_ptr error) { tell_other_ranks(session_, std::move(error)); };
  stage_ = build_stage(config, input_, ranks_);
}

void JobRun::run_pass() {
  const std::uint64_t start_ns = now_ns();
  if (++ran_.count == 1) {
    ran_.first_start_ns = start_ns;
    watch_.emplace(*stage_, watched_);
    early_stop_.emplace(input_, ranks_);
  } else {
    watch_->follow(*stage_);
  }
  ranks_.agree_on_error([&] {
    if (ranks_.rank() == 0 && input_.on_start) input_.on_start(job_.policy.of_rank(0));
  });
  SweepsReport sweeps;
  std::exception_ptr fault;
  if (ranks_.rank() == 0) {
    fault = drive(sweeps);
  } else {
    plan_watch_.begin_pass(*stage_, {});
    stage_->serve();
  }
  plan_watch_.end_pass();
  // Rows and their results are rank 0's: what went wrong with them leaves all ranks able to end alike.
  ranks_.agree_on_error([&] {
    if (fault) std::rethrow_exception(fault);
  });
  add_to_report(sweeps, seconds_since(start_ns));
  watch_->leave_stage();
  stage_.reset();
  ranks_.barrier();  // no rank tears its links down while another still uses them
}

// Rank 0 turns rows into sweeps, the others serve them. A stage that fails has told the other ranks itself.
std::exception_ptr JobRun::drive(SweepsReport& sweeps) {
  CountedSweeps runner(*stage_, *input_.counts, [this] { plan_watch_.end_sweep(); });
  const Policy policy = job_.policy.of_rank(0);
  BatchDriver driver(runner, policy, block_limits(policy, job_.shape), input_.model.eos_tokens);
  plan_watch_.begin_pass(*stage_, [&driver](std::int32_t tokens) { driver.limit_tokens(tokens); });
  try {
    driver.run(*input_.rows, input_.callbacks);
  } catch (const InternalError&) {  // the stages may wait for each other
    tell_other_ranks(session_, std::current_exception());
    throw;
  } catch (...) {
    return std::current_exception();
  }
  sweeps = sweeps_report(driver);
  return nullptr;
}

void JobRun::add_to_report(const SweepsReport& sweeps, double seconds) {
  ran_.timing.total_seconds += seconds;
  ran_.timing.prefill_seconds += sweeps.prefill.seconds;
  ran_.timing.decode_seconds += sweeps.decode.seconds;
  ran_.timing.mixed_seconds += sweeps.mixed.seconds;
  const double of_sweeps = sweeps.prefill.seconds + sweeps.decode.seconds + sweeps.mixed.seconds;
  if (of_sweeps >= ran_.longest_seconds) describe_plan(stage_->plan(), ran_.longest);
  ran_.longest_seconds = std::max(ran_.longest_seconds, of_sweeps);
  add_pass(ran_.sweeps, sweeps);
  RankReport own = rank_report(*stage_, ranks_);
  if (ran_.count == 1) ran_.own = std::move(own);
  else add_pass(ran_.own, own);
  if (request_.files.trace.empty()) return;
  std::vector<std::string> events =
      ranks_.all_gather(chrome_trace_events(stage_->tracer().events(), ranks_.rank(), ran_.first_start_ns));
  if (ranks_.rank() == 0) std::ranges::move(events, std::back_inserter(ran_.trace_events));
}

bool JobRun::another_follows() {
  bool does = false;
  ranks_.agree_on_error([&] { does = input_.rows && !stop_requested() && input_.rows->begin_pass(); });
  return ranks_.broadcast(does ? "yes" : "no") == "yes";
}

Report JobRun::report() {
  early_stop_.reset();
  WatchReport watched = watch_->finish();
  ranks_.agree_on_error([&] {
    if (ranks_.rank() == 0 && !request_.files.trace.empty()) write_trace(request_.files.trace, ran_.trace_events);
  });
  Report report = gather_report(std::move(ran_.own), ran_.timing.total_seconds, ranks_);
  add_watched(report, std::move(watched), request_.files, ranks_);
  report.plan_check = plan_watch_.report();
  if (ranks_.rank() == 0) add_job(report);
  ranks_.barrier();
  return report;
}

void JobRun::add_job(Report& report) {
  report.command = input_.command;
  report.model = ran_.longest.model;
  report.policy = ran_.longest.policy;
  report.timing = ran_.timing;
  report.sweeps = ran_.sweeps;
  report.job = input_.count_job();
  report.job.passes = ran_.count;
  report.throughput = measure_throughput(report.job, report.timing, report.sweeps.saved_prompt_tokens);
  if (ran_.count > 1) return log::info("no roofline and no prediction: the job had a plan for each of its passes");
  add_roofline(report, {input_.model, job_.policy, job_.shape, job_.profiles, job_.device, *transport_, ranks_});
}

}  // namespace

Report run_job(MpiSession& session, const JobRequest& request, const JobInput& input) {
  Communicator& ranks = session.communicator();
  ranks.all_equal("the program's version", version_text());
  ranks.all_equal("the model", fingerprint(input.model));
  const LiveFigures figures = begin_figures(input, ranks);
  const std::unique_ptr<MetricsServer> server = open_metrics(request.files, figures, ranks);
  const bool is_shown = ranks.rank() == 0 && !request.files.quiet;
  JobRun job(session, request, input, {ranks.host(), figures, input.counts, server.get(), is_shown});
  job.run();
  return job.report();
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
