#include "run/job_report.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "run/version.hpp"
#include "storage/host_memory.hpp"

namespace flexgen {
namespace {

using nlohmann::json;

ClassBytes class_bytes(const std::array<std::uint64_t, num_tensor_classes>& bytes) {
  return {bytes[0], bytes[1], bytes[2]};
}

TierReport tier_report(const TierDemand& demand, std::uint64_t capacity, std::uint64_t peak) {
  return {capacity, class_bytes(demand.requested), class_bytes(demand.home), peak};
}

json encode(const ClassBytes& b) { return {b.weights, b.cache, b.hidden}; }
ClassBytes decode_class(const json& j) {
  return {j[0].get<std::uint64_t>(), j[1].get<std::uint64_t>(), j[2].get<std::uint64_t>()};
}
json encode(const TierReport& t) { return {t.capacity_bytes, encode(t.requested), encode(t.achieved), t.peak_bytes}; }
TierReport decode_tier(const json& j) {
  return {j[0].get<std::uint64_t>(), decode_class(j[1]), decode_class(j[2]), j[3].get<std::uint64_t>()};
}

json encode(const ResourceReports& reports) {
  json resources = json::object();
  for (const auto& [name, use] : reports)
    resources[name] = {use.busy_seconds, use.bytes, use.count, use.occupied_seconds};
  return resources;
}
ResourceReports decode_resources(const json& j) {
  ResourceReports reports;
  for (const auto& [name, use] : j.items())
    reports[name] = {use[0].get<double>(), use[1].get<std::uint64_t>(), use[2].get<std::uint64_t>(),
                     use[3].get<double>()};
  return reports;
}

std::string encode(const RankReport& r) {
  return json{{"rank", r.rank},
              {"host", r.host},
              {"device", r.device},
              {"first_layer", r.first_layer},
              {"num_layers", r.num_layers},
              {"gpu", encode(r.tiers.gpu)},
              {"dram", encode(r.tiers.dram)},
              {"ssd", encode(r.tiers.ssd)},
              {"resources", encode(r.resources)},
              {"prefill", encode(r.prefill_resources)},
              {"decode", encode(r.decode_resources)},
              {"load_seconds", r.load_seconds},
              {"pinning_seconds", r.pinning_seconds},
              {"sweep_seconds", r.sweep_seconds},
              {"busy_fraction", r.busy_fraction},
              {"peak_host_bytes", r.peak_host_bytes}}
      .dump();
}

RankReport decode_rank(const std::string& text) {
  const json j = json::parse(text);
  RankReport r;
  r.rank = j["rank"].get<int>();
  r.host = j["host"].get<std::string>();
  r.device = j["device"].get<std::string>();
  r.first_layer = j["first_layer"].get<int>();
  r.num_layers = j["num_layers"].get<int>();
  r.tiers = {decode_tier(j["gpu"]), decode_tier(j["dram"]), decode_tier(j["ssd"])};
  r.resources = decode_resources(j["resources"]);
  r.prefill_resources = decode_resources(j["prefill"]);
  r.decode_resources = decode_resources(j["decode"]);
  r.load_seconds = j["load_seconds"].get<double>();
  r.pinning_seconds = j["pinning_seconds"].get<double>();
  r.sweep_seconds = j["sweep_seconds"].get<double>();
  r.busy_fraction = j["busy_fraction"].get<double>();
  r.peak_host_bytes = j["peak_host_bytes"].get<std::uint64_t>();
  return r;
}

RankReport own_report(Stage& stage, const Budgets& budgets, double run_seconds, const Communicator& ranks) {
  const MemoryPlan& plan = stage.plan().memory;
  RankReport r;
  r.rank = ranks.rank();
  r.host = ranks.host();
  r.device = device_description(stage.device());
  r.first_layer = stage.plan().bounds.first_decoder_layer;
  r.num_layers = stage.plan().bounds.num_decoder_layers;
  r.tiers.gpu = tier_report(plan.gpu, budgets.gpu_bytes, stage.peak_bytes(TierKind::gpu));
  r.tiers.dram = tier_report(plan.dram, budgets.dram_bytes, stage.peak_bytes(TierKind::dram));
  r.tiers.ssd = tier_report(plan.ssd, budgets.ssd_bytes, stage.peak_bytes(TierKind::ssd));
  r.resources = resource_reports(stage.tracer().totals());
  r.prefill_resources = resource_reports(stage.tracer().totals(TracePhase::prefill));
  r.decode_resources = resource_reports(stage.tracer().totals(TracePhase::decode));
  r.load_seconds = stage.load_seconds();
  r.pinning_seconds = stage.pinning_seconds();
  r.sweep_seconds = stage.sweep_seconds();
  // Of the whole run: a stage that waits for its neighbours is not busy.
  const double computing =
      r.prefill_resources["compute"].occupied_seconds + r.decode_resources["compute"].occupied_seconds;
  if (run_seconds > 0) r.busy_fraction = std::min(1.0, computing / run_seconds);
  r.peak_host_bytes = peak_resident_set_bytes();
  return r;
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

}  // namespace

Report gather_report(Stage& stage, const Budgets& budgets, double run_seconds, Communicator& ranks) {
  const std::vector<std::string> all = ranks.all_gather(encode(own_report(stage, budgets, run_seconds, ranks)));
  Report report;
  if (ranks.rank() != 0) return report;
  const ModelSpec& model = stage.plan().input.model;
  report.version = version_text();
  report.model = {model.name, model.family, model.num_layers, model.hidden, num_parameters(model)};
  report.policy = policy_report(stage.plan().input.policy);
  for (const std::string& text : all) report.ranks.push_back(decode_rank(text));
  return report;
}

}  // namespace flexgen
