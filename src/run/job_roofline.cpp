#include "run/job_roofline.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/log.hpp"
#include "policy/block_limits.hpp"
#include "policy/cost_model.hpp"
#include "policy/roofline.hpp"
#include "run/policy_choice.hpp"

namespace flexgen {
namespace {

constexpr double not_measured = std::numeric_limits<double>::quiet_NaN();

// Why there can be no roofline; empty when there can.
std::string missing(const RanJob& job) {
  constexpr const char* remedy = "flexgen-dist profile --offload-dir DIR measures one in about a minute";
  if (!job.profiles.front()) return fmt::format("no roofline: this machine has no hardware profile; {}", remedy);
  for (const auto& loaded : job.profiles)
    if (job.device.is_cuda() && !loaded->profile.gpu)
      return fmt::format("no roofline: {} has no figures of a GPU; {}", loaded->source, remedy);
  return "";
}

std::vector<StageInput> stage_inputs(const Report& report, const RanJob& job) {
  const int num_ranks = job.ranks.size();
  const JobOutline outline{job.model, job.shape, job.device, num_ranks > 1 ? std::string(job.transport.name()) : "",
                           job.device.is_cuda() && !job.transport.moves_device_memory()};
  std::vector<StageInput> stages;
  for (int r = 0; r < num_ranks; ++r) {
    const auto index = static_cast<std::size_t>(r);
    const TierReports& tiers = report.ranks[index].tiers;
    StageInput stage;
    stage.plan = outline.stage_input(job.policy, index);
    stage.budgets = {tiers.gpu.capacity_bytes, tiers.dram.capacity_bytes, tiers.ssd.capacity_bytes};
    const LoadedProfile& loaded = *job.profiles[index];
    rate_stage(stage, loaded.profile, loaded.share, outline.transport);
    stages.push_back(std::move(stage));
  }
  return stages;
}

struct Measured {
  double busy_seconds = not_measured;
  double bytes = not_measured;
};

class MeasuredPhase {
 public:
  MeasuredPhase(const ResourceReports& resources, bool on_gpu, const Need& host_memory)
      : resources_(resources), on_gpu_(on_gpu), host_memory_(host_memory) {}

  Measured of(Ceiling ceiling) const {
    switch (ceiling) {
      case Ceiling::matrix:
      case Ceiling::gpu_memory: return {use("compute").occupied_seconds, not_measured};
      case Ceiling::host_to_gpu: return sum({"host_to_gpu"});
      case Ceiling::gpu_to_host: return sum({"gpu_to_host"});
      case Ceiling::both_directions: return longest({"host_to_gpu", "gpu_to_host"});
      case Ceiling::disk: return longest({"disk_read", "disk_write"});
      case Ceiling::network: return longest({"send", "recv"});
      case Ceiling::host_memory: break;
    }
    return host_memory();
  }

 private:
  const ResourceReport& use(const char* name) const {
    static const ResourceReport nothing;
    const auto found = resources_.find(name);
    return found == resources_.end() ? nothing : found->second;
  }
  Measured sum(std::initializer_list<const char*> names) const {
    Measured m{0, 0};
    for (const char* name : names) {
      m.busy_seconds += use(name).occupied_seconds;
      m.bytes += static_cast<double>(use(name).bytes);
    }
    return m;
  }
  // Two lanes that work side by side: together they were busy at least as long as the longer one.
  Measured longest(std::initializer_list<const char*> names) const {
    Measured m = sum(names);
    m.busy_seconds = 0;
    for (const char* name : names) m.busy_seconds = std::max(m.busy_seconds, use(name).occupied_seconds);
    return m;
  }
  // On a GPU only copies and the host's attention touch host memory: their bytes over the ceiling. On a CPU all that
  // runs does.
  Measured host_memory() const {
    if (!on_gpu_) return {longest({"compute", "host_to_gpu", "gpu_to_host"}).busy_seconds, not_measured};
    if (host_memory_.seconds <= 0) return {};
    const Measured copies = sum({"host_to_gpu", "gpu_to_host", "disk_read", "disk_write", "host_attention"});
    return {copies.bytes * host_memory_.seconds / host_memory_.amount, copies.bytes};
  }

  const ResourceReports& resources_;
  bool on_gpu_;
  Need host_memory_;
};

RooflinePhase phase_report(const PhaseBound& bound, const ResourceReports& resources, double measured_seconds,
                           bool on_gpu) {
  RooflinePhase phase;
  phase.least_seconds = bound.seconds;
  phase.measured_seconds = measured_seconds;
  const MeasuredPhase measured(resources, on_gpu, bound.needs[static_cast<std::size_t>(Ceiling::host_memory)]);
  for (std::size_t i = 0; i < num_ceilings; ++i) {
    const auto ceiling = static_cast<Ceiling>(i);
    const Need& need = bound.needs[i];
    if (need.amount <= 0 || (ceiling == Ceiling::both_directions && bound.binding() != ceiling)) continue;
    const Measured seen = measured.of(ceiling);
    const bool is_matrix = ceiling == Ceiling::matrix;
    phase.resources.push_back({std::string(ceiling_name(ceiling)), need.seconds, seen.busy_seconds,
                               is_matrix ? 0 : need.amount, is_matrix ? need.amount : 0, seen.bytes});
  }
  return phase;
}

// Sweeps of a job that mix are one phase. In one whose bound has two, a few may mix where rows begin: those are
// prefill.
void add_phases(RooflineReport& roofline, const StageBound& bound, const PhaseResources& used,
                const TimingReport& timing, bool on_gpu) {
  if (bound.mixed.seconds > 0) {
    roofline.mixed = phase_report(bound.mixed, used.sum(), timing.sweep_seconds(), on_gpu);
    return;
  }
  const ResourceReports prefill = PhaseResources{used.prefill, {}, used.mixed}.sum();
  roofline.prefill = phase_report(bound.prefill, prefill, timing.prefill_seconds + timing.mixed_seconds, on_gpu);
  roofline.decode = phase_report(bound.decode, used.decode, timing.decode_seconds, on_gpu);
}

// Of the rows that ran, as they were let in: by the budget that the job was planned with.
PredictedReport predict(std::vector<StageInput> stages, const Report& report, const RooflineJob& ran) {
  const auto rows = static_cast<double>(ran.num_sequences);
  for (StageInput& stage : stages) {
    Policy& policy = stage.plan.policy;
    JobShape& shape = stage.plan.job;
    if (policy.rule == BlockRule::rolling) policy.token_budget = micro_batch_tokens(policy, shape);
    // Lengths spread as they were planned to, about the mean that they had.
    const double planned_mean = static_cast<double>(shape.new_tokens) / static_cast<double>(shape.num_rows);
    const double longer = planned_mean > 0 ? ran.new_tokens / planned_mean : 1;
    shape.new_squares *= rows / static_cast<double>(shape.num_rows) * longer * longer;
    shape.num_rows = ran.num_sequences;
    shape.prompt_tokens = std::llround(rows * ran.prompt_tokens);
    shape.shared_prompt_tokens = static_cast<std::int64_t>(report.sweeps.saved_prompt_tokens);
    shape.new_tokens = std::llround(rows * ran.new_tokens);
  }
  const Prediction prediction = predict_run(stages, ran);
  return {prediction.seconds, prediction.tokens_per_second, prediction.num_sweeps, static_cast<int>(prediction.slowest),
          std::string(ceiling_name(prediction.binding))};
}

}  // namespace

void add_roofline(Report& report, const RanJob& job) {
  if (report.job.sequences == 0) return;
  if (const std::string why = missing(job); !why.empty()) {
    log::info(why);
    return;
  }
  const auto sequences = static_cast<double>(report.job.sequences);
  const RooflineJob ran{static_cast<std::int64_t>(report.job.sequences),
                        static_cast<double>(report.job.prompt_tokens) / sequences,
                        static_cast<double>(report.job.generated_tokens) / sequences,
                        static_cast<double>(report.job.scored_tokens) / sequences, job.shape.mean_decode_position()};
  const std::vector<StageInput> stages = stage_inputs(report, job);
  const RunBound bound = bound_run(stages, ran);
  const RankReport& slowest = report.ranks[bound.slowest];
  const bool on_gpu = job.device.is_cuda();

  RooflineReport roofline;
  roofline.profile = job.profiles.front()->source;
  roofline.bound_tokens_per_second = bound.tokens_per_second;
  if (bound.tokens_per_second > 0) roofline.fraction = report.throughput.tokens_per_second / bound.tokens_per_second;
  roofline.rank = static_cast<int>(bound.slowest);
  roofline.binding_phase = phase_name(bound.phase);
  roofline.binding_resource = ceiling_name(bound.binding);
  roofline.advice = advise(stages, ran, bound);
  add_phases(roofline, bound.stages[bound.slowest], slowest.resources_by_phase, report.timing, on_gpu);
  for (const StageBound& other : bound.stages) roofline.rank_least_seconds.push_back(other.seconds());
  report.roofline = std::move(roofline);
  report.predicted = predict(stages, report, ran);
}

}  // namespace flexgen
