#include "run/planning/plan_text.hpp"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>

#include "base/bytes.hpp"

namespace flexgen {
namespace {

using Text = std::back_insert_iterator<std::string>;

std::string duration(double seconds) {
  if (seconds < 120) return fmt::format("{:.3g} s", seconds);
  if (seconds < 7200) return fmt::format("{:.1f} min", seconds / 60);
  return fmt::format("{:.1f} h", seconds / 3600);
}

std::string amount_of(const PlannedResource& resource) {
  if (resource.name == "matrix") return fmt::format("{:.3g} TFLOP", resource.amount / 1e12);
  return format_bytes(static_cast<std::uint64_t>(resource.amount));
}

// Host, layers and flags of a rank; on a line of its own.
void add_tiers(const PlannedRank& rank, Text to) {
  fmt::format_to(to, "    {:<6}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}  of\n", "", "weights", "cache", "hidden", "staging",
                 "scratch", "all");
  for (const PlannedTier& tier : rank.tiers) {
    if (tier.total_bytes == 0) continue;
    fmt::format_to(to, "    {:<6}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}  {}\n", tier.tier,
                   format_bytes(tier.weights_bytes), format_bytes(tier.cache_bytes), format_bytes(tier.hidden_bytes),
                   format_bytes(tier.staging_bytes), format_bytes(tier.workspace_bytes), format_bytes(tier.total_bytes),
                   format_bytes(tier.budget_bytes));
  }
}

void add_phases(const PlannedRank& rank, Text to) {
  for (const PlannedPhase& phase : rank.phases) {
    fmt::format_to(to, "    {:<8} at least {}:", phase.phase, duration(phase.least_seconds));
    std::vector<PlannedResource> busiest = phase.resources;
    std::ranges::stable_sort(busiest, std::greater<>(), &PlannedResource::seconds);
    for (const PlannedResource& resource : busiest)
      if (resource.seconds > 0.01 * phase.least_seconds)
        fmt::format_to(to, " {} {} ({})", resource.name, duration(resource.seconds), amount_of(resource));
    fmt::format_to(to, "\n");
  }
}

bool are_alike(const PlannedRank& one, const PlannedRank& other) {
  return one.flags == other.flags && one.num_decoder_layers == other.num_decoder_layers;
}

void add_ranks(const PlannedWay& way, Text to) {
  for (std::size_t first = 0; first < way.ranks.size();) {
    std::size_t last = first;
    // The first and the last hold embedding and head, too.
    while (first > 0 && last + 2 < way.ranks.size() && are_alike(way.ranks[last + 1], way.ranks[first])) ++last;
    const PlannedRank& rank = way.ranks[first];
    if (way.ranks.size() > 1)
      fmt::format_to(to, "  rank{} on {}: {} layers, at least {}\n    {}\n",
                     first == last ? fmt::format(" {}", first) : fmt::format("s {} to {}", first, last), rank.host,
                     rank.num_decoder_layers, duration(rank.least_seconds), rank.flags);
    add_tiers(rank, to);
    add_phases(rank, to);
    first = last + 1;
  }
}

std::string figures_of(const PlannedWay& way) {
  return fmt::format("{:.4g} tokens/s, {} in all", way.tokens_per_second, duration(way.seconds));
}

// One line of flags where it can say all.
std::string to_be_pasted(const PlannedWay& way) {
  const std::string& flags = way.ranks.front().flags;
  if (way.ranks.size() == 1) return flags;
  std::vector<std::int32_t> slices;
  for (const PlannedRank& rank : way.ranks) slices.push_back(rank.num_decoder_layers);
  const bool are_alike = std::ranges::all_of(way.ranks, [&](const PlannedRank& rank) { return rank.flags == flags; });
  if (are_alike) return fmt::format("{} --slices {}", flags, fmt::join(slices, ","));
  return fmt::format("ranks have placements of their own: --save FILE keeps them for --percent FILE, beside {}",
                     flags.substr(flags.find("--gpu-batch-size")));
}

void add_best(const PlannedWay& way, Text to) {
  fmt::format_to(to, "plan: {}; {} binds{}\n", figures_of(way), way.binding_resource,
                 way.ranks.size() > 1 ? fmt::format(" rank {}", way.slowest_rank) : "");
  fmt::format_to(to, "  {}\n", to_be_pasted(way));
  add_ranks(way, to);
}

void add_explained(const ExplainedPolicy& explained, const PlannedWay& best, Text to) {
  fmt::format_to(to, "yours: {}\n", explained.flags);
  if (!explained.misfit.empty()) {
    fmt::format_to(to, "  does not fit: {}\n", explained.misfit);
    if (!explained.nearest.empty()) fmt::format_to(to, "  the nearest that fits: {}\n", explained.nearest);
    return;
  }
  const PlannedWay& way = explained.way.front();
  fmt::format_to(to, "  {}: {:.3g} times the plan's time; {} binds\n", figures_of(way), way.seconds / best.seconds,
                 way.binding_resource);
  add_ranks(way, to);
}

}  // namespace

std::string plan_text(const PlanReport& report) {
  std::string text;
  const Text to = std::back_inserter(text);
  fmt::format_to(to, "{}: {} rows, in the mean {:.0f} prompt and {:.1f} new tokens\n", report.model, report.rows,
                 report.mean_prompt_tokens, report.mean_new_tokens);
  if (report.ways.empty()) fmt::format_to(to, "no plan fits\n");
  else add_best(report.ways.front(), to);
  for (const ExplainedPolicy& explained : report.explained) add_explained(explained, report.ways.front(), to);
  for (std::size_t i = 1; i < report.ways.size(); ++i)
    fmt::format_to(to, "else: {}\n  {}\n", figures_of(report.ways[i]), to_be_pasted(report.ways[i]));
  for (const WhatIf& more : report.more)
    fmt::format_to(to, "with {}: {:.4g} tokens/s ({:+.0f} %)\n", more.change, more.tokens_per_second,
                   100 * (more.tokens_per_second / report.ways.front().tokens_per_second - 1));
  fmt::format_to(to, "{} sizes of a block planned in {:.2g} s\n", report.num_tried, report.search_seconds);
  return text;
}

}  // namespace flexgen
