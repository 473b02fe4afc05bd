#include "job/page/page_sections.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/bytes.hpp"
#include "job/page/charts.hpp"
#include "job/page/html_table.hpp"
#include "job/page/html_text.hpp"

namespace flexgen {
namespace {

/// Nothing where there is no content.
std::string section(std::string_view title, const std::string& content) {
  if (content.empty()) return "";
  return fmt::format("<section>\n<h2>{}</h2>\n{}</section>\n", html_escaped(title), content);
}

std::string paragraph(std::string_view text) { return fmt::format("<p class=\"dim\">{}</p>\n", html_escaped(text)); }

/// Of a resource, for people.
std::string spoken(std::string name) {
  std::ranges::replace(name, '_', ' ');
  return name;
}

/// Amounts per interval as rates, 0 .. 1 of the highest.
std::string rate_chart(const std::string& name, const std::vector<double>& edges,
                       const std::vector<std::uint64_t>& amounts, int tone) {
  std::vector<double> rates;
  for (std::size_t i = 0; i < amounts.size(); ++i) {
    const double seconds = edges[i + 1] - edges[i];
    rates.push_back(seconds > 0 ? static_cast<double>(amounts[i]) / seconds : 0);
  }
  const double most = rates.empty() ? 0 : *std::ranges::max_element(rates);
  if (most <= 0) return "";
  for (double& rate : rates) rate /= most;
  const std::string height = rate_number(most);
  return step_chart(
      edges, rates, tone,
      {name, "at most " + height, fmt::format("{} over the time of the run; the top is {} a second", name, height)});
}

/// Of a resource over the whole run.
double mean_busy(const std::vector<double>& edges, const std::vector<double>& busy) {
  double seconds = 0;
  for (std::size_t i = 0; i < busy.size(); ++i) seconds += busy[i] * (edges[i + 1] - edges[i]);
  return seconds / (edges.back() - edges.front());
}

std::string busy_charts(const ActivityReport& activity) {
  std::string charts;
  for (const auto& [name, busy] : activity.busy) {
    const int tone = name == "compute" || name == "host_attention" ? 1
                     : name.starts_with("disk")                    ? 3
                     : name == "send" || name == "recv"            ? 4
                                                                   : 2;
    const std::string share = percent_text(mean_busy(activity.seconds, busy));
    charts += step_chart(
        activity.seconds, busy, tone,
        {spoken(name), share,
         fmt::format("Share of the time in which {} was in use, over the run; {} on the whole", spoken(name), share)});
  }
  return charts.empty() ? "" : charts + time_axis(activity.seconds.back());
}

std::string rank_title(const RankReport& rank) {
  return fmt::format("Rank {}: {} on {}, layers {} to {}", rank.rank, rank.device, rank.host, rank.first_layer,
                     rank.first_layer + rank.num_layers - 1);
}

using NamedTier = std::pair<const char*, const TierReport*>;

std::vector<NamedTier> used_tiers(const TierReports& tiers) {
  std::vector<NamedTier> used;
  for (const NamedTier& tier : {NamedTier{"gpu", &tiers.gpu}, {"dram", &tiers.dram}, {"ssd", &tiers.ssd}})
    if (tier.second->is_used()) used.push_back(tier);
  return used;
}

std::string tier_bar(const NamedTier& named) {
  const TierReport& tier = *named.second;
  const auto share = [&](std::uint64_t bytes) {
    return tier.capacity_bytes > 0 ? static_cast<double>(bytes) / static_cast<double>(tier.capacity_bytes) : 0;
  };
  const std::string figure = fmt::format("peak {} of {}", size_text(tier.peak_bytes), size_text(tier.capacity_bytes));
  return share_bar(
      share(tier.peak_bytes), share(tier.achieved.total()),
      {named.first, figure,
       fmt::format("Of the budget of {}: {} held what the policy placed, {} at the peak with staging buffers",
                   size_text(tier.capacity_bytes), size_text(tier.achieved.total()), size_text(tier.peak_bytes))});
}

void add_tier_rows(HtmlTable& table, const std::string& where, const TierReports& tiers) {
  for (const auto& [name, tier] : used_tiers(tiers))
    table.add({where + name, size_text(tier->requested.total()), size_text(tier->achieved.total()),
               size_text(tier->achieved.weights), size_text(tier->achieved.cache), size_text(tier->achieved.hidden),
               size_text(tier->peak_bytes), size_text(tier->capacity_bytes)});
}

std::string seconds_cell(double seconds) { return std::isfinite(seconds) ? fmt::format("{:.3f}", seconds) : "-"; }

std::string bytes_cell(double bytes) {
  return std::isfinite(bytes) && bytes >= 0 ? size_text(static_cast<std::uint64_t>(bytes)) : "-";
}

std::string phase_table(const std::string& name, const RooflinePhase& phase, const RooflineReport& roofline) {
  if (phase.resources.empty()) return "";
  HtmlTable table("Roofline of " + name, {name, "least s", "busy s", "busy", "least", "moved"});
  for (const RooflineResource& r : phase.resources) {
    const bool binds = r.name == roofline.binding_resource;
    const std::string least =
        r.operations > 0 ? fmt::format("{:.4g} TFLOP", r.operations * 1e-12) : bytes_cell(r.least_bytes);
    table.add({spoken(r.name) + (binds ? " (binds)" : ""), seconds_cell(r.least_seconds), seconds_cell(r.busy_seconds),
               percent_text(r.busy_seconds / phase.measured_seconds), least, bytes_cell(r.bytes)},
              binds ? HtmlTable::Mark::binds : HtmlTable::Mark::none);
  }
  table.add({"whole phase", seconds_cell(phase.least_seconds), seconds_cell(phase.measured_seconds), "", "", ""});
  return table.html();
}

std::string lengths_chart(const std::string& name, const LengthDistribution& lengths, int tone) {
  if (lengths.count == 0 || lengths.most == 0) return "";
  const std::string figure =
      fmt::format("{} to {}, mean {:.1f}", grouped(lengths.least), grouped(lengths.most), lengths.mean);
  return "<div>" +
         histogram(lengths, tone,
                   {name, figure,
                    fmt::format("{} sequences by their number of tokens, {}", grouped(lengths.count), figure)}) +
         "</div>\n";
}

std::string errors_table(const std::map<std::string, std::uint64_t>& errors, std::uint64_t num_rows) {
  if (errors.empty()) return "";
  HtmlTable table("Errors by kind", {"error", "rows", "of all rows"});
  for (const auto& [code, count] : errors)
    table.add(
        {code, grouped(count),
         fmt::format("{:.3g} %", 100 * static_cast<double>(count) / static_cast<double>(std::max(num_rows, count)))});
  return "<h3>Errors</h3>\n" + table.html();
}

}  // namespace

std::string size_text(std::uint64_t bytes) { return bytes == 0 ? "0" : format_bytes(bytes); }

std::string time_section(const Report& report) {
  std::string content;
  constexpr std::size_t most_open = 4;  // ranks
  for (std::size_t r = 0; r < report.ranks.size(); ++r) {
    const ActivityReport& activity = report.ranks[r].activity;
    if (activity.seconds.size() < 2 || activity.seconds.back() <= 0) continue;
    if (r == 0) {
      const char* tokens = report.score ? "Tokens scored a second" : "Tokens generated a second";
      content += rate_chart(tokens, activity.seconds, activity.tokens, 1);
      content += rate_chart("Rows finished a second", activity.seconds, activity.rows, 2);
      if (!content.empty()) content += time_axis(activity.seconds.back());
    }
    const std::string charts = busy_charts(activity);
    if (charts.empty()) continue;
    content += fmt::format("<details{}><summary>{}</summary>\n{}</details>\n", r < most_open ? " open" : "",
                           html_escaped(rank_title(report.ranks[r])), charts);
  }
  return section("Over time", content.empty() ? ""
                                              : paragraph("Since loading was over. Of a resource the share of the "
                                                          "time in which it was in use: resources work side by "
                                                          "side, and what is full binds.") +
                                                    content);
}

std::string roofline_section(const Report& report) {
  if (!report.roofline) return "";
  const RooflineReport& roofline = *report.roofline;
  std::string content = fmt::format(
      "<p>At most <strong>{}</strong> tokens a second by {}; reached <strong>{}</strong>. {} binds ({}). What would "
      "help "
      "most: {}.</p>\n",
      rate_number(roofline.bound_tokens_per_second), html_escaped(roofline.profile), percent_text(roofline.fraction),
      html_escaped(spoken(roofline.binding_resource)), html_escaped(roofline.binding_phase),
      html_escaped(roofline.advice));
  if (report.predicted)
    content += paragraph(fmt::format("The cost model predicts {} tokens a second: {:.1f} s, where it took {:.1f} s.",
                                     rate_number(report.predicted->tokens_per_second), report.predicted->seconds,
                                     report.timing.sweep_seconds()));
  if (report.ranks.size() > 1) content += paragraph(fmt::format("Of rank {}, the slowest stage:", roofline.rank));
  content += phase_table("prefill", roofline.prefill, roofline) + phase_table("decode", roofline.decode, roofline) +
             phase_table("all sweeps", roofline.mixed, roofline);
  return section("What binds", content);
}

std::string memory_section(const Report& report) {
  const TierReports tiers = sum_tiers(report.ranks);
  std::string content;
  for (const NamedTier& tier : used_tiers(tiers)) content += tier_bar(tier);
  if (content.empty()) return "";
  HtmlTable table("Memory by tier", {"tier", "asked for", "taken", "weights", "KV cache", "hidden", "peak", "budget"});
  add_tier_rows(table, "", tiers);
  if (report.ranks.size() > 1)
    for (const RankReport& rank : report.ranks) add_tier_rows(table, fmt::format("rank {}: ", rank.rank), rank.tiers);
  return section("Memory", content + table.html());
}

std::string rows_section(const Report& report) {
  if (!report.rows) return "";
  const std::string charts =
      lengths_chart("Prompts", report.rows->prompt, 1) + lengths_chart("Answers", report.rows->generated, 2);
  std::string content = charts.empty() ? "" : "<div class=\"pair\">\n" + charts + "</div>\n";
  content += errors_table(report.rows->errors, report.job.rows);
  return section("Rows", content);
}

std::string policy_section(const Report& report) {
  const PolicyReport& policy = report.policy;
  const SweepsReport& sweeps = report.sweeps;
  std::string content = fmt::format("<p><code>{}</code></p>\n", html_escaped(policy.flags));
  HtmlTable table("Sweeps", {"sweeps", "number", "seconds", "rows a sweep", "prompt tokens", "decoded tokens"});
  for (const auto& [name, totals] : {std::pair{"that read prompts", &sweeps.prefill},
                                     {"that decode", &sweeps.decode},
                                     {"that do both", &sweeps.mixed}})
    if (totals->sweeps > 0)
      table.add({name, grouped(totals->sweeps), seconds_cell(totals->seconds),
                 fmt::format("{:.1f}", static_cast<double>(totals->rows) / static_cast<double>(totals->sweeps)),
                 grouped(totals->prompt_tokens), grouped(totals->decode_tokens)});
  content += table.html();
  std::string use = fmt::format("{:.1f} of {} rows in a sweep.", sweeps.rows_per_sweep(),
                                policy.gpu_batch_size * policy.num_gpu_batches);
  if (sweeps.saved_prompt_tokens > 0)
    use += fmt::format(" {} tokens of prompts were read, {} were not: rows begin alike.",
                       grouped(sweeps.computed_prompt_tokens), grouped(sweeps.saved_prompt_tokens));
  content += paragraph(use);
  return section("Policy", content);
}

std::string ranks_section(const Report& report) {
  HtmlTable table("Ranks", {"rank", "device", "layers", "load", "busiest", "compute", "host memory"});
  for (const RankReport& rank : report.ranks) {
    const auto busiest = busiest_resource(rank);
    const double seconds = report.timing.sweep_seconds();
    table.add(
        {fmt::format("{} on {}", rank.rank, rank.host), rank.device,
         fmt::format("{} to {}", rank.first_layer, rank.first_layer + rank.num_layers - 1),
         duration_text(rank.load_seconds),
         busiest ? fmt::format("{} {}", spoken(busiest->first), percent_text(std::min(1.0, busiest->second / seconds)))
                 : "-",
         percent_text(rank.busy_fraction), size_text(rank.peak_host_bytes)});
  }
  std::string content = table.html();
  if (const std::vector<EnergyReport> devices = sum_energy(report.ranks); !devices.empty()) {
    HtmlTable energy("Energy", {"energy", "device", "kJ"});
    for (const EnergyReport& device : devices)
      energy.add({device.kind + " of " + device.host, device.name, fmt::format("{:.3f}", device.joules * 1e-3)});
    content += energy.html();
  }
  return section("Ranks", content);
}

}  // namespace flexgen
