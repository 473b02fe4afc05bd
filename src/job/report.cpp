#include "job/report.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/json_fields.hpp"
#include "job/figure_file.hpp"

namespace flexgen {
namespace {

using OrderedJson = nlohmann::ordered_json;

template <class T>
OrderedJson json_of(const T& value) {
  return OrderedJson::parse(to_json_text(value));
}

OrderedJson tier_json(const TierReport& tier) {
  return {{"capacity_bytes", tier.capacity_bytes},
          {"requested_bytes", tier.requested.total()},
          {"achieved_bytes", tier.achieved.total()},
          {"peak_bytes", tier.peak_bytes},
          {"planned_bytes", tier.planned_bytes},
          {"requested_bytes_by_class", json_of(tier.requested)},
          {"achieved_bytes_by_class", json_of(tier.achieved)}};
}

OrderedJson tiers_json(const TierReports& tiers) {
  return {{"gpu", tier_json(tiers.gpu)}, {"dram", tier_json(tiers.dram)}, {"ssd", tier_json(tiers.ssd)}};
}

// As gathered, tiers in their published form.
OrderedJson rank_json(const RankReport& rank) {
  OrderedJson json = json_of(rank);
  json["tiers"] = tiers_json(rank.tiers);
  return json;
}

OrderedJson score_json(const ScoreReport& score) {
  OrderedJson json = json_of(score);
  json["perplexity"] = score.perplexity();
  return json;
}

OrderedJson row_lengths_json(const std::optional<RowsReport>& rows) {
  if (!rows) return {};
  return {{"prompt", json_of(rows->prompt)}, {"generated", json_of(rows->generated)}};
}

OrderedJson energy_json(const std::vector<EnergyReport>& devices) {
  if (devices.empty()) return {};
  OrderedJson listed = OrderedJson::array();
  double joules = 0;
  for (const EnergyReport& device : devices) {
    joules += device.joules;
    listed.push_back(json_of(device));
  }
  return {{"joules", joules}, {"devices", std::move(listed)}};
}

OrderedJson sweeps_json(const SweepsReport& sweeps) {
  OrderedJson json = json_of(sweeps);
  json["rows_per_sweep"] = sweeps.rows_per_sweep();
  return json;
}

OrderedJson phase_json(const RooflinePhase& phase) {
  OrderedJson resources = OrderedJson::object();
  for (const RooflineResource& resource : phase.resources) resources[resource.name] = json_of(resource);
  return {{"least_seconds", phase.least_seconds},
          {"measured_seconds", phase.measured_seconds},
          {"resources", std::move(resources)}};
}

OrderedJson roofline_json(const RooflineReport& roofline) {
  return {{"bound_tokens_per_second", roofline.bound_tokens_per_second},
          {"fraction", roofline.fraction},
          {"binding_resource", roofline.binding_resource},
          {"binding_phase", roofline.binding_phase},
          {"advice", roofline.advice},
          {"rank", roofline.rank},
          {"phases",
           {{"prefill", phase_json(roofline.prefill)},
            {"decode", phase_json(roofline.decode)},
            {"mixed", phase_json(roofline.mixed)}}},
          {"rank_least_seconds", roofline.rank_least_seconds},
          {"profile", roofline.profile}};
}

OrderedJson plan_check_json(const std::vector<PlanCheckReport>& ranks) {
  OrderedJson listed = OrderedJson::array();
  for (const PlanCheckReport& rank : ranks) listed.push_back(json_of(rank));
  return listed;
}

double per_second(double count, double seconds) { return seconds > 0 ? count / seconds : 0.0; }

}  // namespace

ClassBytes& ClassBytes::operator+=(const ClassBytes& other) {
  weights += other.weights;
  cache += other.cache;
  hidden += other.hidden;
  return *this;
}

TierReport& TierReport::operator+=(const TierReport& other) {
  capacity_bytes += other.capacity_bytes;
  requested += other.requested;
  achieved += other.achieved;
  peak_bytes += other.peak_bytes;
  planned_bytes += other.planned_bytes;
  return *this;
}

ResourceReports resource_reports(const TotalsByResource& totals) {
  ResourceReports reports;
  for (std::size_t i = 0; i < totals.size(); ++i)
    reports[std::string(resource_name(static_cast<Resource>(i)))] = {static_cast<double>(totals[i].busy_ns) * 1e-9,
                                                                     totals[i].bytes, totals[i].count,
                                                                     static_cast<double>(totals[i].occupied_ns) * 1e-9};
  return reports;
}

void add_resources(ResourceReports& sum, const ResourceReports& more) {
  for (const auto& [name, use] : more) {
    ResourceReport& total = sum[name];
    total.busy_seconds += use.busy_seconds;
    total.bytes += use.bytes;
    total.count += use.count;
    total.occupied_seconds += use.occupied_seconds;
  }
}

double ScoreReport::perplexity() const { return std::exp(-log_probability / static_cast<double>(tokens)); }

ThroughputReport measure_throughput(const JobReport& job, const TimingReport& timing,
                                    std::uint64_t saved_prompt_tokens) {
  const auto generated = static_cast<double>(job.generated_tokens);
  const double decoded = job.generated_tokens > job.sequences ? generated - static_cast<double>(job.sequences) : 0.0;
  const auto made = generated + static_cast<double>(job.scored_tokens);
  const auto prompts = static_cast<double>(job.prompt_tokens - saved_prompt_tokens);
  const double seconds = timing.sweep_seconds();
  ThroughputReport rate{per_second(made, seconds), per_second(prompts, timing.prefill_seconds),
                        per_second(decoded, timing.decode_seconds), per_second(prompts + decoded, seconds)};
  if (timing.mixed_seconds > 0)
    rate.prefill_tokens_per_second = rate.decode_tokens_per_second = std::numeric_limits<double>::quiet_NaN();
  return rate;
}

ResourceReports PhaseResources::sum() const {
  ResourceReports all = prefill;
  add_resources(all, decode);
  add_resources(all, mixed);
  return all;
}

double SweepsReport::rows_per_sweep() const {
  return per_second(static_cast<double>(prefill.rows + decode.rows + mixed.rows),
                    static_cast<double>(prefill.sweeps + decode.sweeps + mixed.sweeps));
}

TierReports sum_tiers(const std::vector<RankReport>& ranks) {
  TierReports sum;
  for (const RankReport& rank : ranks) {
    sum.gpu += rank.tiers.gpu;
    sum.dram += rank.tiers.dram;
    sum.ssd += rank.tiers.ssd;
  }
  return sum;
}

std::vector<EnergyReport> sum_energy(const std::vector<RankReport>& ranks) {
  std::vector<EnergyReport> devices;
  for (const RankReport& rank : ranks)
    for (const EnergyReport& seen : rank.energy) {
      const auto same = std::ranges::find_if(devices, [&](const EnergyReport& other) {
        return other.host == seen.host && other.kind == seen.kind && other.name == seen.name;
      });
      if (same == devices.end()) devices.push_back(seen);
      else same->joules = std::max(same->joules, seen.joules);  // who looked longest
    }
  return devices;
}

std::uint64_t ssd_bytes_written(const std::vector<RankReport>& ranks) {
  std::uint64_t bytes = 0;
  for (const RankReport& rank : ranks)
    if (const auto found = rank.resources.find("disk_write"); found != rank.resources.end())
      bytes += found->second.bytes;
  return bytes;
}

WaitsReport& WaitsReport::operator+=(const WaitsReport& other) {
  load_seconds += other.load_seconds;
  receive_seconds += other.receive_seconds;
  send_seconds += other.send_seconds;
  turn_seconds += other.turn_seconds;
  return *this;
}

std::optional<std::pair<std::string, double>> busiest_resource(const RankReport& rank) {
  std::optional<std::pair<std::string, double>> most;
  for (const auto& [name, use] : rank.resources_by_phase.sum())
    if (use.occupied_seconds > (most ? most->second : 0)) most.emplace(name, use.occupied_seconds);
  return most;
}

std::string to_json(const Report& report) {
  OrderedJson ranks = OrderedJson::array();
  for (const RankReport& rank : report.ranks) ranks.push_back(rank_json(rank));
  const OrderedJson json = {{"schema_version", report.schema_version},
                            {"program", report.program},
                            {"version", report.version},
                            {"command", report.command},
                            {"model", json_of(report.model)},
                            {"policy", json_of(report.policy)},
                            {"job", json_of(report.job)},
                            {"lengths", report.lengths ? json_of(*report.lengths) : OrderedJson()},
                            {"errors", report.rows ? OrderedJson(report.rows->errors) : OrderedJson()},
                            {"row_lengths", row_lengths_json(report.rows)},
                            {"timing", json_of(report.timing)},
                            {"sweeps", sweeps_json(report.sweeps)},
                            {"throughput", json_of(report.throughput)},
                            {"score", report.score ? score_json(*report.score) : OrderedJson()},
                            {"roofline", report.roofline ? roofline_json(*report.roofline) : OrderedJson()},
                            {"predicted", report.predicted ? json_of(*report.predicted) : OrderedJson()},
                            {"plan_check", plan_check_json(report.plan_check)},
                            {"ssd_bytes_written", ssd_bytes_written(report.ranks)},
                            {"energy", energy_json(sum_energy(report.ranks))},
                            {"tiers", tiers_json(sum_tiers(report.ranks))},
                            {"ranks", std::move(ranks)}};
  return json.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

void write_report(const Report& report, const std::string& path) {
  write_figure_file(path, {to_json(report)}, FigureKind::report, "--report");
}

}  // namespace flexgen
