#include "app/run_job.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "app/interrupt.hpp"
#include "app/job_report.hpp"
#include "app/job_roofline.hpp"
#include "app/machine.hpp"
#include "app/policy_choice.hpp"
#include "app/transports.hpp"
#include "app/version.hpp"
#include "base/bytes.hpp"
#include "base/error.hpp"
#include "base/log.hpp"
#include "job/figure_file.hpp"
#include "job/file_descriptor.hpp"

namespace flexgen {
namespace {

using nlohmann::json;

JobShape share_shape(const JobShape& mine, Communicator& ranks) {
  const json own = {mine.max_prompt_tokens, mine.max_new_tokens, mine.max_row_tokens, mine.num_rows, mine.scores};
  const json given = json::parse(ranks.broadcast(own.dump()));
  JobShape shape;
  shape.max_prompt_tokens = given[0].get<std::int32_t>();
  shape.max_new_tokens = given[1].get<std::int32_t>();
  shape.max_row_tokens = given[2].get<std::int32_t>();
  shape.num_rows = given[3].get<std::int64_t>();
  shape.scores = given[4].get<bool>();
  return shape;
}

// All ranks compute on GPUs, or none does: a float16 rank and a float32 rank do not fit together.
Device agree_on_device(const Options& options, Communicator& ranks) {
  Device device;
  ranks.agree_on_error([&] { device = choose_device(options, ranks); });
  ranks.all_equal("the kind of device (give --device cpu or cuda)", device.is_cuda() ? "cuda" : "cpu");
  return device;
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

void gather_trace(const std::string& path, Stage& stage, std::uint64_t origin_ns, Communicator& ranks) {
  const std::vector<std::string> events =
      ranks.all_gather(chrome_trace_events(stage.tracer().events(), ranks.rank(), origin_ns));
  if (ranks.rank() == 0) write_trace(path, events);
}

// Whoever measures wants the figures: they are what the command gives.
bool prints_figures(const Options& options) { return options.command == "bench" || !options.text.empty(); }

}  // namespace

Report run_job(MpiSession& session, const Options& options, JobInput input) {
  Communicator& ranks = session.communicator();
  ranks.all_equal("the program's version", version_text());
  ranks.all_equal("the model", fingerprint(input.model));
  const std::uint64_t begin_ns = now_ns();
  const Device device = agree_on_device(options, ranks);
  share_processors(ranks, device.is_cuda() && options.cpu_attention_percent > 0);
  const JobShape shape = share_shape(input.shape, ranks);
  const std::vector<std::optional<LoadedProfile>> profiles = gather_profiles(options, ranks);

  std::vector<SliceBounds> slices;
  Budgets budgets;
  ranks.agree_on_error([&] {
    slices = balanced_slices(input.model, ranks.size());
    budgets = choose_budgets(options, device, ranks);
  });
  const Policy policy = choose_policy(options, input.model, slices, shape, device, budgets, ranks);
  ranks.all_equal("the policy", to_flags(policy));

  std::unique_ptr<Transport> transport = open_transport(session, options, device);
  StageConfig config;
  config.plan.bounds = slices[static_cast<std::size_t>(ranks.rank())];
  const auto num_groups = static_cast<std::int32_t>(ranks.size());
  config.plan.input = plan_input(input.model, config.plan.bounds, policy, shape, num_groups, device);
  config.plan.memory = plan_memory(config.plan.input, budgets);
  config.budgets = budgets;
  config.device = device;
  config.offload_dir = options.offload_dir;
  config.transport = transport.get();
  config.keep_trace_events = !options.trace.empty();
  config.on_error = [&session](std::exception_ptr error) { tell_other_ranks(session, std::move(error)); };
  log::info(
      fmt::format("{} rank{} on {}; loading", ranks.size(), ranks.size() == 1 ? "" : "s", device_description(device)));

  std::unique_ptr<Stage> stage;
  ranks.agree_on_error([&] {
    config.source = input.make_source();
    stage = std::make_unique<Stage>(config);
  });
  ranks.barrier();
  TimingReport timing;
  timing.load_seconds = static_cast<double>(now_ns() - begin_ns) / 1e9;

  const std::uint64_t start_ns = now_ns();
  if (ranks.rank() == 0) {
    Generator generator(*stage, num_groups, input.model.eos_tokens);
    try {
      if (input.on_start) input.on_start(policy);
      generator.run(std::move(input.rows), input.callbacks);
    } catch (...) {
      // The stage's workers may be waiting for other ranks: those must hear of it before the stage is taken down.
      config.on_error(std::current_exception());
      throw;
    }
    timing.prefill_seconds = generator.times().prefill_seconds;
    timing.decode_seconds = generator.times().decode_seconds;
  } else {
    stage->serve();
  }
  timing.total_seconds = static_cast<double>(now_ns() - start_ns) / 1e9;

  if (!options.trace.empty()) gather_trace(options.trace, *stage, start_ns, ranks);
  Report report = gather_report(*stage, budgets, static_cast<double>(now_ns() - start_ns) / 1e9, ranks);
  report.command = input.command;
  report.timing = timing;
  if (ranks.rank() == 0) {
    report.job = input.count_job();
    report.throughput = measure_throughput(report.job, report.timing);
    add_roofline(report, {input.model, policy, shape, slices, profiles, device, *transport, ranks});
  }
  stage.reset();
  ranks.barrier();  // no rank tears its links down while another still uses them
  return report;
}

int conclude(const Report& report, const Options& options) {
  const bool to_stdout = prints_figures(options) && !options.writes_to_stdout();
  // Nobody may be listening: that is no reason for a job to fail that is done.
  if (!options.quiet) write_fully(to_stdout ? STDOUT_FILENO : STDERR_FILENO, summary(report));
  if (!options.report.empty()) write_report(report, options.report);
  if (report.job.failed_rows == 0) return static_cast<int>(ExitCode::ok);
  log::warn(fmt::format("{} of {} rows failed{}", report.job.failed_rows, report.job.rows,
                        options.output.empty() ? "" : "; their errors stand in " + options.output));
  return static_cast<int>(ExitCode::rows_failed);
}

}  // namespace flexgen
