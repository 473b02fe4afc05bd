#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/bytes.hpp"
#include "job/report.hpp"

namespace flexgen {
namespace {

std::string count_text(std::uint64_t parameters) {
  const auto value = static_cast<double>(parameters);
  if (value >= 1e9) return fmt::format("{:.1f} B", value * 1e-9);
  if (value >= 1e6) return fmt::format("{:.0f} M", value * 1e-6);
  return fmt::format("{}", parameters);
}

std::string line(std::string_view name, std::string_view text) { return fmt::format("{:<12}{}\n", name, text); }

std::string tier_line(std::string_view name, const TierReport& tier) {
  return line(name, fmt::format("peak {} of {}, placed {} (asked for {})", format_bytes(tier.peak_bytes),
                                format_bytes(tier.capacity_bytes), format_bytes(tier.achieved.total()),
                                format_bytes(tier.requested.total())));
}

/// What bound each rank: the resource that was in use most of the job's `seconds` of sweeps.
std::string rank_line(const RankReport& rank, double seconds) {
  std::string text = fmt::format("{} on {}, layers {} .. {}", rank.device, rank.host, rank.first_layer,
                                 rank.first_layer + rank.num_layers - 1);
  if (const auto busiest = busiest_resource(rank); busiest && seconds > 0)
    text += fmt::format(", busiest {} ({:.0f} %), compute {:.0f} %", busiest->first,
                        100 * std::min(1.0, busiest->second / seconds), 100 * rank.busy_fraction);
  if (const double idle = rank.waits.receive_seconds + rank.waits.turn_seconds; idle > 0 && seconds > 0)
    text += fmt::format(", idle in the pipeline {:.0f} %", 100 * std::min(1.0, idle / seconds));
  return line(fmt::format("rank {}", rank.rank), text);
}

std::string time_text(const TimingReport& timing, double pinning_seconds) {
  std::string text = fmt::format("load {:.2f} s", timing.load_seconds);
  if (pinning_seconds > 0.01) text += fmt::format(" (pinning {:.2f} s)", pinning_seconds);
  text += fmt::format(", prefill {:.2f} s, decode {:.2f} s", timing.prefill_seconds, timing.decode_seconds);
  if (timing.mixed_seconds > 0) text += fmt::format(", both together {:.2f} s", timing.mixed_seconds);
  return text + fmt::format(", total {:.2f} s", timing.total_seconds);
}

// Sweeps that bring prompts beside decoding rows have no rate of either.
std::string rate_text(const ThroughputReport& rate) {
  if (!std::isfinite(rate.prefill_tokens_per_second))
    return fmt::format("{:.2f} with the prompts' tokens", rate.read_tokens_per_second);
  return fmt::format("prefill {:.2f}, decode {:.2f}", rate.prefill_tokens_per_second, rate.decode_tokens_per_second);
}

std::string lengths_text(const LengthsReport& lengths) {
  const auto range = [](const LengthReport& length) {
    return fmt::format("{} .. {} (mean {:.1f})", length.least, length.most, length.mean);
  };
  return fmt::format("prompts of {}, {} generated{}", range(lengths.prompt), range(lengths.generated),
                     lengths.input.empty() ? fmt::format(", seed {}", lengths.seed) : ", as in " + lengths.input);
}

std::string blocks_text(const SweepsReport& sweeps, const PolicyReport& policy) {
  const auto held = static_cast<double>(sweeps.held_cache_positions);
  return fmt::format("{:.1f} of {} rows in a sweep, {:.0f} % of the cache held at the peak", sweeps.rows_per_sweep(),
                     policy.gpu_batch_size * policy.num_gpu_batches,
                     100 * held / static_cast<double>(sweeps.cache_positions));
}

std::string prompts_text(const SweepsReport& sweeps) {
  const std::uint64_t all = sweeps.computed_prompt_tokens + sweeps.saved_prompt_tokens;
  return fmt::format("{} tokens read, {} ({:.0f} %) saved: rows share what they begin with",
                     sweeps.computed_prompt_tokens, sweeps.saved_prompt_tokens,
                     100 * static_cast<double>(sweeps.saved_prompt_tokens) / static_cast<double>(all));
}

std::string errors_text(const std::map<std::string, std::uint64_t>& errors) {
  std::string text;
  for (const auto& [code, count] : errors) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, code);
  return text;
}

std::string row_lengths_text(const RowsReport& rows) {
  const auto range = [](const LengthDistribution& lengths) {
    return fmt::format("{} .. {} (mean {:.1f})", lengths.least, lengths.most, lengths.mean);
  };
  std::string text = "prompts of " + range(rows.prompt);
  if (rows.generated.most > 0) text += fmt::format(", {} generated", range(rows.generated));
  return text + ", in tokens";
}

std::string energy_text(const std::vector<EnergyReport>& devices, std::uint64_t num_tokens) {
  std::map<std::string, double> joules;
  double sum = 0;
  for (const EnergyReport& device : devices) {
    joules[device.kind] += device.joules;
    sum += device.joules;
  }
  std::string text;
  for (const auto& [kind, of_kind] : joules)
    text += fmt::format("{}{:.4g} kJ by {}s", text.empty() ? "" : ", ", of_kind * 1e-3, kind);
  if (sum > 0 && num_tokens > 0) text += fmt::format(", {:.3g} J a token", sum / static_cast<double>(num_tokens));
  return text;
}

// What was asked of the job, and what came of it.
std::string rows_lines(const Report& report) {
  const JobReport& job = report.job;
  std::string text = line("rows", job.failed_rows > 0 ? fmt::format("{} ({} ok, {} failed)", job.rows,
                                                                    job.rows - job.failed_rows, job.failed_rows)
                                                      : fmt::format("{}", job.rows));
  if (report.rows && !report.rows->errors.empty()) text += line("errors", errors_text(report.rows->errors));
  if (job.passes > 1) text += line("passes", fmt::format("{}, each with a plan of its own", job.passes));
  text +=
      line("tokens", report.score ? fmt::format("{} read, {} scored", job.prompt_tokens, report.score->tokens)
                                  : fmt::format("{} prompt, {} generated", job.prompt_tokens, job.generated_tokens));
  if (report.lengths && report.lengths->is_mixed()) text += line("lengths", lengths_text(*report.lengths));
  else if (!report.lengths && report.rows && report.rows->prompt.count > 0)
    text += line("lengths", row_lengths_text(*report.rows));
  return text;
}

std::string seconds_text(double seconds) { return std::isfinite(seconds) ? fmt::format("{:.3f}", seconds) : "-"; }

std::string amount_text(const RooflineResource& r) {
  if (r.operations > 0) return fmt::format("{:.4g} TFLOP", r.operations * 1e-12);
  std::string text = format_bytes(static_cast<std::uint64_t>(r.least_bytes));
  if (std::isfinite(r.bytes)) text += fmt::format(" (moved {})", format_bytes(static_cast<std::uint64_t>(r.bytes)));
  return text;
}

// Resources of one phase: what they need at least beside what they were busy.
std::string phase_table(std::string_view name, const RooflinePhase& phase) {
  std::string text =
      fmt::format("{:<12}{:<16}{:>10}{:>10}{:>8}  {}\n", name, "resource", "least s", "busy s", "busy %", "bytes");
  for (const RooflineResource& r : phase.resources) {
    const double percent = phase.measured_seconds > 0 ? 100 * r.busy_seconds / phase.measured_seconds : 0;
    text += fmt::format("{:<12}{:<16}{:>10}{:>10}{:>8}  {}\n", "", r.name, seconds_text(r.least_seconds),
                        seconds_text(r.busy_seconds), std::isfinite(percent) ? fmt::format("{:.0f}", percent) : "-",
                        amount_text(r));
  }
  return text + fmt::format("{:<12}{:<16}{:>10}{:>10}\n", "", "whole phase", seconds_text(phase.least_seconds),
                            seconds_text(phase.measured_seconds));
}

std::string roofline_text(const RooflineReport& roofline, std::size_t num_ranks) {
  std::string text;
  if (num_ranks > 1) text += line("roofline", fmt::format("of rank {}, the slowest stage", roofline.rank));
  if (!roofline.prefill.resources.empty()) text += phase_table("prefill", roofline.prefill);
  if (!roofline.decode.resources.empty()) text += phase_table("decode", roofline.decode);
  if (!roofline.mixed.resources.empty()) text += phase_table("all sweeps", roofline.mixed);
  text += line("roofline", fmt::format("at most {:.2f} tokens/s by {}; reached {:.0f} %",
                                       roofline.bound_tokens_per_second, roofline.profile, 100 * roofline.fraction));
  return text + line("bound by", fmt::format("{} ({}); what would help most: {}", roofline.binding_resource,
                                             roofline.binding_phase, roofline.advice));
}

std::string predicted_text(const PredictedReport& predicted, const Report& report) {
  const double measured = report.timing.sweep_seconds();
  std::string text = fmt::format("{:.2f} s, {:.2f} tokens/s, bound by {}", predicted.seconds,
                                 predicted.tokens_per_second, predicted.binding_resource);
  if (predicted.seconds > 0) text += fmt::format("; it took {:.2f} times as long", measured / predicted.seconds);
  return text;
}

}  // namespace

std::string summary(const Report& report) {
  const ModelReport& model = report.model;
  std::string text = line("model", fmt::format("{}, {} layers, hidden {}, {} parameters, {}", model.name, model.layers,
                                               model.hidden, count_text(model.parameters), report.policy.dtype));
  text += line("policy", report.policy.flags);
  text += rows_lines(report);
  double pinning_seconds = 0;
  for (const RankReport& rank : report.ranks) pinning_seconds = std::max(pinning_seconds, rank.pinning_seconds);
  text += line("time", time_text(report.timing, pinning_seconds));
  const ThroughputReport& rate = report.throughput;
  text +=
      line("throughput", report.score ? fmt::format("{:.2f} tokens scored/s", rate.tokens_per_second)
                                      : fmt::format("{:.2f} tokens/s ({})", rate.tokens_per_second, rate_text(rate)));
  if (report.sweeps.cache_positions > 0) text += line("blocks", blocks_text(report.sweeps, report.policy));
  if (report.sweeps.saved_prompt_tokens > 0) text += line("prompts", prompts_text(report.sweeps));
  const TierReports tiers = sum_tiers(report.ranks);
  if (tiers.gpu.is_used()) text += tier_line("gpu", tiers.gpu);
  if (tiers.dram.is_used()) text += tier_line("dram", tiers.dram);
  if (tiers.ssd.is_used()) text += tier_line("ssd", tiers.ssd);
  if (const std::uint64_t written = ssd_bytes_written(report.ranks); written > 0)
    text += line("written", format_bytes(written) + " to the ssd tier");
  if (const std::vector<EnergyReport> energy = sum_energy(report.ranks); !energy.empty())
    text += line("energy", energy_text(energy, report.job.generated_tokens + report.job.scored_tokens));
  const double seconds = report.timing.sweep_seconds();
  for (const RankReport& rank : report.ranks) text += rank_line(rank, seconds);
  if (report.predicted) text += line("predicted", predicted_text(*report.predicted, report));
  if (report.roofline) text += roofline_text(*report.roofline, report.ranks.size());
  if (report.score && report.score->tokens > 0)
    text += line("perplexity", fmt::format("{:.4f} over {} tokens", report.score->perplexity(), report.score->tokens));
  return text;
}

}  // namespace flexgen
