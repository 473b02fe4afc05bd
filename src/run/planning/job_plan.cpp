#include "run/planning/job_plan.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/error.hpp"
#include "base/json_fields.hpp"
#include "comm/exchange.hpp"
#include "job/figure_file.hpp"
#include "model/layer.hpp"
#include "run/job_roofline.hpp"
#include "run/machine.hpp"
#include "run/planning/plan_question.hpp"
#include "run/planning/planned_machines.hpp"
#include "run/policy_choice.hpp"
#include "run/transports.hpp"
#include "run/version.hpp"

namespace flexgen {
namespace {

// Where a plan is made for: by rank, and how ranks reach each other.
struct PlanSite {
  std::vector<PlannedMachine> machines;
  std::string transport;
  bool hidden_through_host = false;
  Policy sizes;
};

DType dtype_elsewhere(const PolicyRequest& request, const ModelSpec& model,
                      const std::vector<PlannedMachine>& machines) {
  if (request.dtype) return *request.dtype;
  const bool on_gpus = std::ranges::all_of(machines, &PlannedMachine::on_gpu);
  const auto is_fast_in_16_bits = [](const PlannedMachine& machine) {
    const std::vector<MatrixRate>& rates = machine.profile.memory.matrix;
    return best_rate(rates, DType::bfloat16) > best_rate(rates, DType::float32);
  };
  if (!on_gpus) return std::ranges::all_of(machines, is_fast_in_16_bits) ? DType::bfloat16 : DType::float32;
  return model.stored_dtype == DType::bfloat16 ? DType::bfloat16 : DType::float16;
}

PlanSite site_elsewhere(const JobRequest& request, const JobToPlan& job) {
  PlanSite site;
  site.machines = machines_elsewhere(job.profiles, request.machine);
  for (const PlannedMachine& machine : site.machines)
    if (machine.on_gpu != site.machines.front().on_gpu)
      throw UserError(ExitCode::usage, "--profiles has machines with and without a GPU",
                      "all ranks compute on GPUs, or none does", "Give --device cpu, or leave one kind out");
  if (static_cast<std::int32_t>(site.machines.size()) > job.model.num_layers)
    throw UserError(
        ExitCode::usage,
        fmt::format("--profiles has {} machines, the model {} layers", site.machines.size(), job.model.num_layers),
        "every rank runs a layer or more", "Leave some out");
  if (site.machines.size() > 1) site.transport = "mpi";
  site.hidden_through_host = site.machines.size() > 1 && site.machines.front().on_gpu;
  site.sizes =
      requested_policy(request.policy, job.model, job.shape, static_cast<int>(site.machines.size())).of_rank(0);
  site.sizes.dtype = dtype_elsewhere(request.policy, job.model, site.machines);
  return site;
}

// Collective.
PlanSite site_here(const JobRequest& request, const JobToPlan& job, const JobShape& shape, Communicator& ranks) {
  PlanSite site;
  const Device device = agree_on_device(request.machine, ranks);
  share_processors(ranks, device.is_cuda());
  Budgets budgets;
  ranks.agree_on_error([&] { budgets = choose_budgets(request.machine, device, ranks); });
  auto profiles = gather_profiles(request.machine.profile, ranks);
  lend_profiles(profiles);
  share_machines(profiles, ranks);
  auto machines = machines_of_ranks(profiles, device, budgets, ranks);
  if (!machines)
    throw AgreedError(
        ExitCode::usage,
        "a plan needs a hardware profile of every machine; flexgen-dist profile --offload-dir DIR measures "
        "one in about a minute");
  site.machines = std::move(*machines);
  const bool by_nccl = ranks.size() > 1 && device.is_cuda() && wants_nccl(request.machine.transport, device, ranks);
  if (ranks.size() > 1) site.transport = by_nccl ? "nccl" : "mpi";
  site.hidden_through_host = ranks.size() > 1 && device.is_cuda() && !by_nccl;
  ranks.agree_on_error(
      [&] { site.sizes = requested_policy(request.policy, job.model, shape, ranks.size()).of_rank(0); });
  site.sizes.dtype = agree_on_dtype(choose_dtype(request.policy.dtype, device, job.model.stored_dtype), device, ranks);
  return site;
}

std::vector<std::int32_t> even_slices(const ModelSpec& model, std::int32_t num_ranks) {
  std::vector<std::int32_t> slices;
  for (const SliceBounds& bounds : balanced_slices(model, num_ranks)) slices.push_back(bounds.num_decoder_layers);
  return slices;
}

std::string misfit_of(const StageInput& stage) { return explain_misfit(plan_memory(stage.plan), stage.budgets); }

// The wishes as a policy that could be run: what they leave open as a job without a plan has it.
ExplainedPolicy explain(const std::vector<RankToPlan>& ranks, const PlanQuestion& question) {
  ExplainedPolicy explained;
  JobPolicy policy{question.sizes, {}, {}};
  policy.block.micro_batch_size = question.wishes.micro_batch_size.value_or(default_micro_batch_size);
  policy.block.num_micro_batches = question.wishes.num_micro_batches.value_or(default_num_micro_batches);
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    const StageWishes& wishes = question.wishes.of_rank(r);
    StagePolicy stage = question.sizes;
    stage.placement = wishes.placement.value_or(stage.placement);
    stage.host_attention_percent = wishes.host_attention_percent.value_or(0);
    stage.separate_layers = wishes.separate_layers.value_or(!stage.uses_host_attention());
    policy.stages.push_back(stage);
  }
  policy.slices = question.wishes.slices.value_or(even_slices(question.model, static_cast<std::int32_t>(ranks.size())));
  cut_caches(policy);
  std::vector<StageInput> stages = stages_of(ranks, policy);
  for (std::size_t r = 0; r < stages.size() && explained.misfit.empty(); ++r) {
    const bool is_wished = question.wishes.of_rank(r).separate_layers.has_value();
    explained.misfit = misfit_of(stages[r]);
    if (explained.misfit.empty() || is_wished || policy.stages[r].separate_layers) continue;
    policy.stages[r].separate_layers = true;  // needs room for fewer weights at a time
    stages[r] = stage_in_pipeline(ranks[r], slice_bounds(policy.slices, r), policy.of_rank(r));
    explained.misfit = misfit_of(stages[r]);
  }
  explained.flags = to_flags(policy.of_rank(0));
  if (explained.misfit.empty()) {
    explained.way = {describe_way(ranks, {policy, predict_run(stages, question.job)}, question.job)};
    return explained;
  }
  PlanQuestion nearest = question;  // the same block, otherwise placed
  nearest.wishes.stages.clear();
  nearest.wishes.slices.reset();
  nearest.wishes.micro_batch_size = policy.block.micro_batch_size;
  nearest.wishes.num_micro_batches = policy.block.num_micro_batches;
  if (const JobPlan plan = plan_job(ranks, nearest, 1); !plan.ways.empty())
    explained.nearest = to_flags(plan.ways.front().policy.of_rank(0));
  return explained;
}

PlannedReport plan(const PlanSite& site, const JobRequest& request, const JobToPlan& job, const JobShape& shape) {
  const std::vector<RankToPlan> ranks =
      ranks_to_plan(site.machines, job.model, shape, site.transport, site.hidden_through_host);
  PlanQuestion question = plan_question(request.policy, job.model, shape, site.sizes);
  PlannedReport planned;
  PlanReport& report = planned.report;
  report.version = version_text();
  report.model = job.model.name;
  report.rows = shape.num_rows;
  report.mean_prompt_tokens = question.job.prompt_tokens;
  report.mean_new_tokens = question.job.new_tokens;
  if (job.explains) {
    if (!request.policy.is_placed())
      throw UserError(ExitCode::usage, "--explain has no policy to explain", "", "Give --percent and what else it is");
    report.explained = {explain(ranks, question)};
    question.wishes.stages.clear();
    question.wishes.slices.reset();
    question.wishes.micro_batch_size = question.wishes.num_micro_batches = std::nullopt;
  }
  const auto begin = std::chrono::steady_clock::now();
  const JobPlan found = plan_job(ranks, question);
  report.search_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  report.num_tried = found.num_tried;
  for (const PlannedJob& way : found.ways) report.ways.push_back(describe_way(ranks, way, question.job));
  if (job.asks_more && !found.ways.empty()) report.more = what_more_brings(ranks, question, found.ways.front());
  if (!found.ways.empty()) planned.best = found.ways.front().policy;
  return planned;
}

}  // namespace

PlannedReport plan_for_report(const JobRequest& request, const JobToPlan& job, Communicator& ranks) {
  const JobShape shape = share(ranks, job.shape);
  PlanSite site;
  if (job.profiles.empty()) site = site_here(request, job, shape, ranks);
  PlannedReport report;
  ranks.agree_on_error([&] {
    if (ranks.rank() != 0) return;
    if (!job.profiles.empty()) site = site_elsewhere(request, job);
    report = plan(site, request, job, shape);
  });
  return report;
}

void write_plan(const PlanReport& report, const std::string& path) {
  write_figure_file(path, {to_json_text(report), "\n"}, FigureKind::plan, "--report");
}

}  // namespace flexgen
