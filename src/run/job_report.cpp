#include "run/job_report.hpp"

#include <algorithm>
#include <utility>

#include "comm/exchange.hpp"
#include "run/version.hpp"
#include "storage/host_memory.hpp"

namespace flexgen {
namespace {

// What was asked for is the plan's word, what was taken the budget's.
TierReport tier_report(const Stage& stage, TierKind tier) {
  const TierDemand& planned = stage.plan().memory.tier(tier);
  const TierBudget& taken = stage.budget(tier);
  TierReport r;
  r.capacity_bytes = taken.capacity_bytes();
  r.requested = {planned.requested[0], planned.requested[1], planned.requested[2]};
  r.achieved = {taken.peak_bytes(MemoryUse::weights), taken.peak_bytes(MemoryUse::cache),
                taken.peak_bytes(MemoryUse::hidden)};
  r.peak_bytes = taken.peak_bytes();
  r.planned_bytes = planned.total();
  return r;
}

void keep_most(TierReport& most, const TierReport& pass) {
  const auto keep = [](std::uint64_t& one, std::uint64_t other) { one = std::max(one, other); };
  for (const auto bytes : {&TierReport::capacity_bytes, &TierReport::peak_bytes, &TierReport::planned_bytes})
    keep(most.*bytes, pass.*bytes);
  for (const auto bytes : {&ClassBytes::weights, &ClassBytes::cache, &ClassBytes::hidden}) {
    keep(most.requested.*bytes, pass.requested.*bytes);
    keep(most.achieved.*bytes, pass.achieved.*bytes);
  }
}

void add_totals(SweepTotalsReport& sum, const SweepTotalsReport& pass) {
  sum.sweeps += pass.sweeps;
  sum.seconds += pass.seconds;
  sum.rows += pass.rows;
  sum.prompt_tokens += pass.prompt_tokens;
  sum.decode_tokens += pass.decode_tokens;
}

PolicyReport policy_report(const Policy& policy) {
  const Placement& at = policy.placement;
  PolicyReport r;
  r.flags = to_flags(policy);
  r.dtype = dtype_name(policy.dtype);
  r.gpu_batch_size = policy.micro_batch_size;
  r.num_gpu_batches = policy.num_micro_batches;
  r.percent = {at.weights.gpu_percent, at.weights.dram_percent, at.cache.gpu_percent,
               at.cache.dram_percent,  at.hidden.gpu_percent,   at.hidden.dram_percent};
  r.overlap = policy.overlap;
  r.sep_layer = policy.separate_layers;
  r.pin_weight = policy.pin_weights;
  r.compress_weight = !policy.weight_format.is_none();
  r.compress_cache = !policy.cache_format.is_none();
  r.cpu_cache_compute = policy.uses_host_attention();
  return r;
}

SweepTotalsReport totals_report(const SweepTotals& totals) {
  SweepTotalsReport r;
  r.sweeps = static_cast<std::uint64_t>(totals.num_sweeps);
  r.seconds = totals.seconds;
  r.rows = static_cast<std::uint64_t>(totals.num_rows);
  r.prompt_tokens = static_cast<std::uint64_t>(totals.num_prompt_tokens);
  r.decode_tokens = static_cast<std::uint64_t>(totals.num_decode_tokens);
  return r;
}

}  // namespace

SweepsReport sweeps_report(const BatchDriver& driver) {
  const PhaseTimes& times = driver.times();
  const CacheUse& cache = driver.cache_use();
  SweepsReport r;
  r.prefill = totals_report(times.prefill);
  r.decode = totals_report(times.decode);
  r.mixed = totals_report(times.mixed);
  r.cache_positions = static_cast<std::uint64_t>(cache.num_positions);
  r.held_cache_positions = static_cast<std::uint64_t>(cache.most_held);
  r.computed_prompt_tokens = r.prefill.prompt_tokens + r.mixed.prompt_tokens;
  r.saved_prompt_tokens = static_cast<std::uint64_t>(driver.num_saved_tokens());
  return r;
}

RankReport rank_report(Stage& stage, const Communicator& ranks) {
  RankReport r;
  r.rank = ranks.rank();
  r.host = ranks.host();
  r.device = device_description(stage.device());
  r.first_layer = stage.plan().bounds.first_decoder_layer;
  r.num_layers = stage.plan().bounds.num_decoder_layers;
  r.tiers = {tier_report(stage, TierKind::gpu), tier_report(stage, TierKind::dram), tier_report(stage, TierKind::ssd)};
  r.resources = resource_reports(stage.tracer().totals());
  r.resources_by_phase.prefill = resource_reports(stage.tracer().totals(TracePhase::prefill));
  r.resources_by_phase.decode = resource_reports(stage.tracer().totals(TracePhase::decode));
  r.resources_by_phase.mixed = resource_reports(stage.tracer().totals(TracePhase::mixed));
  r.load_seconds = stage.load_seconds();
  r.pinning_seconds = stage.pinning_seconds();
  r.sweep_seconds = stage.sweep_seconds();
  const WaitTimes& waits = stage.waits();
  r.waits = {waits.seconds(Wait::load), waits.seconds(Wait::receive), waits.seconds(Wait::send),
             waits.seconds(Wait::turn)};
  r.peak_host_bytes = peak_resident_set_bytes();
  return r;
}

void describe_plan(const StagePlan& plan, Report& report) {
  const ModelSpec& model = plan.input.model;
  report.model = {model.name, model.family, model.num_layers, model.hidden, num_parameters(model)};
  report.policy = policy_report(plan.input.policy);
}

void add_pass(SweepsReport& sum, const SweepsReport& pass) {
  add_totals(sum.prefill, pass.prefill);
  add_totals(sum.decode, pass.decode);
  add_totals(sum.mixed, pass.mixed);
  sum.cache_positions = std::max(sum.cache_positions, pass.cache_positions);
  sum.held_cache_positions = std::max(sum.held_cache_positions, pass.held_cache_positions);
  sum.computed_prompt_tokens += pass.computed_prompt_tokens;
  sum.saved_prompt_tokens += pass.saved_prompt_tokens;
}

void add_pass(RankReport& sum, const RankReport& pass) {
  keep_most(sum.tiers.gpu, pass.tiers.gpu);
  keep_most(sum.tiers.dram, pass.tiers.dram);
  keep_most(sum.tiers.ssd, pass.tiers.ssd);
  add_resources(sum.resources, pass.resources);
  add_resources(sum.resources_by_phase.prefill, pass.resources_by_phase.prefill);
  add_resources(sum.resources_by_phase.decode, pass.resources_by_phase.decode);
  add_resources(sum.resources_by_phase.mixed, pass.resources_by_phase.mixed);
  sum.load_seconds += pass.load_seconds;
  sum.pinning_seconds += pass.pinning_seconds;
  sum.sweep_seconds += pass.sweep_seconds;
  sum.waits += pass.waits;
  sum.peak_host_bytes = std::max(sum.peak_host_bytes, pass.peak_host_bytes);
}

Report gather_report(RankReport own, double run_seconds, Communicator& ranks) {
  // Of the whole run: a stage that waits for its neighbours is not busy.
  const double computing = own.resources_by_phase.sum()["compute"].occupied_seconds;
  if (run_seconds > 0) own.busy_fraction = std::min(1.0, computing / run_seconds);
  Report report;
  report.version = version_text();
  std::vector<RankReport> all = gather(ranks, own);
  if (ranks.rank() == 0) report.ranks = std::move(all);
  return report;
}

}  // namespace flexgen
