#include "base/bytes.hpp"
#include "fmt/format.h"
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

bool is_used(const TierReport& tier) { return tier.peak_bytes + tier.achieved.total() + tier.requested.total() > 0; }

/// What bound each rank: its busiest resource over the time in sweeps.
std::string rank_line(const RankReport& rank) {
  std::string name;
  double most = 0;
  for (const auto& [resource, totals] : rank.resources)
    if (totals.busy_seconds > most) {
      most = totals.busy_seconds;
      name = resource;
    }
  std::string text = fmt::format("{} on {}, layers {} .. {}", rank.device, rank.host, rank.first_layer,
                                 rank.first_layer + rank.num_layers - 1);
  if (most > 0 && rank.sweep_seconds > 0)
    text += fmt::format(", busiest {} ({:.0f} %), compute {:.0f} %", name, 100 * most / rank.sweep_seconds,
                        100 * rank.busy_fraction);
  return line(fmt::format("rank {}", rank.rank), text);
}

}  // namespace

std::string summary(const Report& report) {
  const ModelReport& model = report.model;
  std::string text = line("model", fmt::format("{}, {} layers, hidden {}, {} parameters, {}", model.name, model.layers,
                                               model.hidden, count_text(model.parameters), report.policy.dtype));
  text += line("policy", report.policy.flags);
  text +=
      line("rows", report.job.failed_rows > 0 ? fmt::format("{} ({} failed)", report.job.rows, report.job.failed_rows)
                                              : fmt::format("{}", report.job.rows));
  text += line("tokens", fmt::format("{} prompt, {} generated", report.job.prompt_tokens, report.job.generated_tokens));
  text += line("time", fmt::format("load {:.2f} s, prefill {:.2f} s, decode {:.2f} s, total {:.2f} s",
                                   report.timing.load_seconds, report.timing.prefill_seconds,
                                   report.timing.decode_seconds, report.timing.total_seconds));
  text += line("throughput",
               fmt::format("{:.2f} tokens/s (prefill {:.2f}, decode {:.2f})", report.throughput.tokens_per_second,
                           report.throughput.prefill_tokens_per_second, report.throughput.decode_tokens_per_second));
  const TierReports tiers = sum_tiers(report.ranks);
  if (is_used(tiers.gpu)) text += tier_line("gpu", tiers.gpu);
  if (is_used(tiers.dram)) text += tier_line("dram", tiers.dram);
  if (is_used(tiers.ssd)) text += tier_line("ssd", tiers.ssd);
  for (const RankReport& rank : report.ranks) text += rank_line(rank);
  return text;
}

}  // namespace flexgen
