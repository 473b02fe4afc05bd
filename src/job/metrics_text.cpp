#include "job/metrics_text.hpp"

#include <fmt/core.h>

#include <array>
#include <string_view>
#include <utility>
#include <vector>

namespace flexgen {
namespace {

/// A label's value may hold anything but a bare backslash, quote or line end.
std::string escaped(std::string_view value) {
  std::string text;
  for (const char c : value) {
    if (c == '\\' || c == '"') text += '\\';
    if (c == '\n') text += "\\n";
    else text += c;
  }
  return text;
}

using Labels = std::vector<std::pair<std::string_view, std::string_view>>;

class MetricsPage {
 public:
  void begin(std::string_view name, std::string_view type, std::string_view help) {
    name_ = name;
    text_ += fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n", name, help, type);
  }
  void add(double value, const Labels& labels = {}) { add_text(fmt::format("{:.9g}", value), labels); }
  void add(std::uint64_t value, const Labels& labels = {}) { add_text(fmt::format("{}", value), labels); }
  /// A family of one value without labels.
  template <class Value>
  void single(std::string_view name, std::string_view type, std::string_view help, Value value) {
    begin(name, type, help);
    add(value);
  }
  std::string take() { return std::move(text_); }

 private:
  void add_text(std::string_view value, const Labels& labels) {
    text_ += name_;
    for (std::size_t i = 0; i < labels.size(); ++i)
      text_ += fmt::format("{}{}=\"{}\"", i == 0 ? "{" : ",", labels[i].first, escaped(labels[i].second));
    text_ += fmt::format("{} {}\n", labels.empty() ? "" : "}", value);
  }

  std::string name_, text_;
};

const char* phase_name(JobPhase phase) {
  switch (phase) {
    case JobPhase::loading: return "loading";
    case JobPhase::running: return "running";
    case JobPhase::done: break;
  }
  return "done";
}

void add_job(MetricsPage& page, const LiveFigures& figures) {
  page.begin("flexgen_job_info", "gauge", "What runs; always 1.");
  page.add(std::uint64_t{1}, {{"version", figures.version}, {"command", figures.command}, {"model", figures.model}});
  page.begin("flexgen_job_phase", "gauge", "1 for what the job is doing now.");
  for (const JobPhase phase : {JobPhase::loading, JobPhase::running, JobPhase::done})
    page.add(std::uint64_t{phase == figures.phase}, {{"phase", phase_name(phase)}});
  page.single("flexgen_ranks", "gauge", "Ranks of the job.", static_cast<std::uint64_t>(figures.num_ranks));
  page.single("flexgen_run_seconds", "gauge", "Time since loading was over.", figures.run_seconds);
  if (const auto eta = figures.eta_seconds())
    page.single("flexgen_eta_seconds", "gauge", "Time to the job's end at its pace so far.", *eta);
}

void add_rows(MetricsPage& page, const LiveFigures& figures) {
  const LiveValues& counts = figures.counts;
  page.begin("flexgen_rows_total", "counter", "Rows of the input that have their result.");
  page.add(counts.rows - counts.failed_rows, {{"result", "ok"}});
  page.add(counts.failed_rows, {{"result", "failed"}});
  if (counts.total_rows)
    page.single("flexgen_input_rows", "gauge", "Rows of the input, once its end has been seen.", *counts.total_rows);
  page.begin("flexgen_tokens_total", "counter", "Tokens of prompts that were read, and tokens generated or scored.");
  page.add(counts.prompt_tokens, {{"kind", "prompt"}});
  page.add(counts.tokens, {{"kind", figures.command == "score" ? "scored" : "generated"}});
  page.begin("flexgen_tokens_per_second", "gauge", "Tokens generated or scored a second.");
  page.add(figures.recent_tokens_per_second, {{"window", "10s"}});
  page.add(figures.tokens_per_second(), {{"window", "run"}});
  page.single("flexgen_sweeps_total", "counter", "Passes over the layers that are done.", counts.sweeps);
}

void add_resources(MetricsPage& page, const LiveFigures& figures) {
  const auto each = [&](const auto& value) {
    for (std::size_t r = 0; r < num_resources; ++r)
      page.add(value(figures.resources[r]), {{"rank", "0"}, {"resource", resource_name(static_cast<Resource>(r))}});
  };
  page.begin("flexgen_resource_busy_seconds_total", "counter",
             "Time in which at least one operation of the resource was under way.");
  each([](const ResourceTotals& totals) { return static_cast<double>(totals.occupied_ns) * 1e-9; });
  page.begin("flexgen_resource_bytes_total", "counter", "Bytes that the resource has moved.");
  each([](const ResourceTotals& totals) { return totals.bytes; });
}

void add_tiers(MetricsPage& page, const LiveFigures& figures) {
  using Member = std::uint64_t TierFigures::*;
  const auto each = [&](std::string_view name, std::string_view help, Member member) {
    page.begin(name, "gauge", help);
    for (std::size_t t = 0; t < figures.tiers.size(); ++t)
      page.add(figures.tiers[t].*member, {{"rank", "0"}, {"tier", live_tier_names[t]}});
  };
  each("flexgen_tier_capacity_bytes", "Budget of the tier.", &TierFigures::capacity_bytes);
  each("flexgen_tier_used_bytes", "Memory taken of the tier now.", &TierFigures::used_bytes);
  each("flexgen_tier_peak_bytes", "Most that was ever taken of the tier.", &TierFigures::peak_bytes);
}

}  // namespace

std::string metrics_text(const LiveFigures& figures) {
  MetricsPage page;
  add_job(page, figures);
  add_rows(page, figures);
  add_resources(page, figures);
  add_tiers(page, figures);
  return page.take();
}

}  // namespace flexgen
