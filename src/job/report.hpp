// The schema of `--report FILE.json`: what a job did, how fast, and where its bytes lay. Documented in REPORT.md.
//
// Plain values, filled by the commands, gathered on rank 0. Stable: within one schema_version fields are only added.
// Thread-safety: values; free functions are pure, write_report touches only its file.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/fields.hpp"
#include "base/trace.hpp"
#include "job/activity.hpp"
#include "job/prediction_report.hpp"
#include "job/row_tally.hpp"

namespace flexgen {

/// Bytes per tensor class.
struct ClassBytes {
  std::uint64_t weights = 0;
  std::uint64_t cache = 0;   // KV cache
  std::uint64_t hidden = 0;  // hidden states between layers

  std::uint64_t total() const { return weights + cache + hidden; }
  ClassBytes& operator+=(const ClassBytes& other);
  static constexpr auto fields() {
    return std::tuple(field("weights", &ClassBytes::weights), field("cache", &ClassBytes::cache),
                      field("hidden", &ClassBytes::hidden));
  }
};

struct TierReport {
  std::uint64_t capacity_bytes = 0;  // the budget
  ClassBytes requested;              // what the placement asked for
  ClassBytes achieved;               // what was taken for it, counted as it was taken
  std::uint64_t peak_bytes = 0;      // most ever in use, staging buffers included
  std::uint64_t planned_bytes = 0;   // what the plan names, staging buffers included

  bool is_used() const { return peak_bytes + achieved.total() + requested.total() > 0; }
  TierReport& operator+=(const TierReport& other);  // peaks add up: ranks have memory of their own
  static constexpr auto fields() {
    return std::tuple(field("capacity_bytes", &TierReport::capacity_bytes), field("requested", &TierReport::requested),
                      field("achieved", &TierReport::achieved), field("peak_bytes", &TierReport::peak_bytes),
                      field("planned_bytes", &TierReport::planned_bytes));
  }
};

struct TierReports {
  TierReport gpu, dram, ssd;
  static constexpr auto fields() {
    return std::tuple(field("gpu", &TierReports::gpu), field("dram", &TierReports::dram),
                      field("ssd", &TierReports::ssd));
  }
};

struct ResourceReport {
  double busy_seconds = 0;  // lengths of all operations, summed
  std::uint64_t bytes = 0;
  std::uint64_t count = 0;
  double occupied_seconds = 0;  // time in which at least one was under way
  static constexpr auto fields() {
    return std::tuple(field("busy_seconds", &ResourceReport::busy_seconds), field("bytes", &ResourceReport::bytes),
                      field("count", &ResourceReport::count),
                      field("occupied_seconds", &ResourceReport::occupied_seconds));
  }
};
using ResourceReports = std::map<std::string, ResourceReport>;  // by resource_name(): "compute", "host_to_gpu", ...
void add_resources(ResourceReports& sum, const ResourceReports& more);

/// Those of sweeps that bring prompts alone, tokens of decoding rows alone, or both; loading is in none.
struct PhaseResources {
  ResourceReports prefill, decode, mixed;

  ResourceReports sum() const;
  static constexpr auto fields() {
    return std::tuple(field("prefill", &PhaseResources::prefill), field("decode", &PhaseResources::decode),
                      field("mixed", &PhaseResources::mixed));
  }
};

/// What one device took while the job ran, by its own meter.
struct EnergyReport {
  std::string kind;  // "gpu", "processor"
  std::string name;  // PCI bus id, "package-0"
  std::string host;
  double joules = 0;
  static constexpr auto fields() {
    return std::tuple(field("kind", &EnergyReport::kind), field("name", &EnergyReport::name),
                      field("host", &EnergyReport::host), field("joules", &EnergyReport::joules));
  }
};

/// How long a stage stood still, by what for. On a GPU, which waits in the order of its streams, of those of the
/// computation nothing is known, and they are 0.
struct WaitsReport {
  double load_seconds = 0;     // weights, cache or hidden states between tiers
  double receive_seconds = 0;  // hidden states of the stage before
  double send_seconds = 0;     // a place for what is to be sent; beside the computation
  double turn_seconds = 0;     // rank 0: tokens of a block; others: the next sweep

  WaitsReport& operator+=(const WaitsReport& other);
  static constexpr auto fields() {
    return std::tuple(
        field("load_seconds", &WaitsReport::load_seconds), field("receive_seconds", &WaitsReport::receive_seconds),
        field("send_seconds", &WaitsReport::send_seconds), field("turn_seconds", &WaitsReport::turn_seconds));
  }
};

struct RankReport {
  int rank = 0;
  std::string host;
  std::string device;  // "NVIDIA H100 80GB HBM3", "cpu"
  int first_layer = 0;
  int num_layers = 0;
  TierReports tiers;
  ResourceReports resources;
  PhaseResources resources_by_phase;
  double load_seconds = 0;            // reading the checkpoint
  double pinning_seconds = 0;         // of it: taking and pinning host memory
  double sweep_seconds = 0;           // inside sweeps
  WaitsReport waits;                  // of a pipeline's stage, between and inside sweeps
  double busy_fraction = 0;           // of the time after loading in which compute was busy, 0 .. 1
  std::uint64_t peak_host_bytes = 0;  // peak resident size of the process
  std::vector<EnergyReport> energy;   // of its GPU and its machine's processors: ranks may share them
  ActivityReport activity;            // for the page alone, so it is no field
  static constexpr auto fields() {
    return std::tuple(
        field("rank", &RankReport::rank), field("host", &RankReport::host), field("device", &RankReport::device),
        field("first_layer", &RankReport::first_layer), field("num_layers", &RankReport::num_layers),
        field("tiers", &RankReport::tiers), field("resources", &RankReport::resources),
        field("resources_by_phase", &RankReport::resources_by_phase), field("load_seconds", &RankReport::load_seconds),
        field("pinning_seconds", &RankReport::pinning_seconds), field("sweep_seconds", &RankReport::sweep_seconds),
        field("waits", &RankReport::waits), field("busy_fraction", &RankReport::busy_fraction),
        field("peak_host_bytes", &RankReport::peak_host_bytes), field("energy", &RankReport::energy));
  }
};

struct ModelReport {
  std::string name, family;
  int layers = 0;
  int hidden = 0;
  std::uint64_t parameters = 0;
  static constexpr auto fields() {
    return std::tuple(field("name", &ModelReport::name), field("family", &ModelReport::family),
                      field("layers", &ModelReport::layers), field("hidden", &ModelReport::hidden),
                      field("parameters", &ModelReport::parameters));
  }
};

struct PolicyReport {
  std::string flags;  // the policy as it would stand on a command line
  std::string dtype;
  int gpu_batch_size = 0;           // B
  int num_gpu_batches = 0;          // K
  std::array<double, 6> percent{};  // weights gpu, cpu; cache gpu, cpu; hidden gpu, cpu; the rest lies on ssd
  bool overlap = false;
  bool sep_layer = false;
  bool pin_weight = false;
  bool compress_weight = false;
  bool compress_cache = false;
  bool cpu_cache_compute = false;
  static constexpr auto fields() {
    return std::tuple(field("flags", &PolicyReport::flags), field("dtype", &PolicyReport::dtype),
                      field("gpu_batch_size", &PolicyReport::gpu_batch_size),
                      field("num_gpu_batches", &PolicyReport::num_gpu_batches),
                      field("percent", &PolicyReport::percent), field("overlap", &PolicyReport::overlap),
                      field("sep_layer", &PolicyReport::sep_layer), field("pin_weight", &PolicyReport::pin_weight),
                      field("compress_weight", &PolicyReport::compress_weight),
                      field("compress_cache", &PolicyReport::compress_cache),
                      field("cpu_cache_compute", &PolicyReport::cpu_cache_compute));
  }
};

struct JobReport {
  std::uint64_t rows = 0;  // of the input, failed ones included
  std::uint64_t failed_rows = 0;
  std::uint64_t sequences = 0;  // prompts that ran; a row may hold several
  std::uint64_t prompt_tokens = 0;
  std::uint64_t generated_tokens = 0;
  std::uint64_t scored_tokens = 0;  // whose log-probability was counted
  std::uint64_t passes = 1;         // each with a plan of its own
  static constexpr auto fields() {
    return std::tuple(field("rows", &JobReport::rows), field("failed_rows", &JobReport::failed_rows),
                      field("sequences", &JobReport::sequences), field("prompt_tokens", &JobReport::prompt_tokens),
                      field("generated_tokens", &JobReport::generated_tokens),
                      field("scored_tokens", &JobReport::scored_tokens), field("passes", &JobReport::passes));
  }
};

struct LengthReport {
  std::int32_t least = 0, most = 0;
  double mean = 0;
  static constexpr auto fields() {
    return std::tuple(field("least", &LengthReport::least), field("most", &LengthReport::most),
                      field("mean", &LengthReport::mean));
  }
};

/// Of a measurement: tokens of its rows, and where they come from.
struct LengthsReport {
  LengthReport prompt, generated;
  std::uint64_t seed = 0;  // by which those were drawn that were not given
  std::string input;       // the file of rows whose lengths these are; empty: all were drawn, or given

  bool is_mixed() const { return prompt.least != prompt.most || generated.least != generated.most; }
  static constexpr auto fields() {
    return std::tuple(field("prompt", &LengthsReport::prompt), field("generated", &LengthsReport::generated),
                      field("seed", &LengthsReport::seed), field("input", &LengthsReport::input));
  }
};

/// Of a job that scores: over all texts.
struct ScoreReport {
  std::uint64_t tokens = 0;
  double log_probability = 0;  // summed, natural logarithm

  double perplexity() const;  // not finite where nothing was scored
  static constexpr auto fields() {
    return std::tuple(field("tokens", &ScoreReport::tokens), field("log_probability", &ScoreReport::log_probability));
  }
};

/// Sweeps in which all rows read their prompts, in which none does, or in which some do.
struct SweepTotalsReport {
  std::uint64_t sweeps = 0;
  double seconds = 0;
  std::uint64_t rows = 0;  // a row counts in every sweep that brings it
  std::uint64_t prompt_tokens = 0, decode_tokens = 0;
  static constexpr auto fields() {
    return std::tuple(field("sweeps", &SweepTotalsReport::sweeps), field("seconds", &SweepTotalsReport::seconds),
                      field("rows", &SweepTotalsReport::rows),
                      field("prompt_tokens", &SweepTotalsReport::prompt_tokens),
                      field("decode_tokens", &SweepTotalsReport::decode_tokens));
  }
};

/// How full the job's blocks were.
struct SweepsReport {
  SweepTotalsReport prefill, decode, mixed;
  std::uint64_t cache_positions = 0;       // reserved: a position is a token's keys and values in all layers
  std::uint64_t held_cache_positions = 0;  // by sequences, at the peak
  std::uint64_t computed_prompt_tokens = 0;
  std::uint64_t saved_prompt_tokens = 0;  // computed for others that begin alike

  double rows_per_sweep() const;
  static constexpr auto fields() {
    return std::tuple(field("prefill", &SweepsReport::prefill), field("decode", &SweepsReport::decode),
                      field("mixed", &SweepsReport::mixed), field("cache_positions", &SweepsReport::cache_positions),
                      field("held_cache_positions", &SweepsReport::held_cache_positions),
                      field("computed_prompt_tokens", &SweepsReport::computed_prompt_tokens),
                      field("saved_prompt_tokens", &SweepsReport::saved_prompt_tokens));
  }
};

struct TimingReport {
  double load_seconds = 0, prefill_seconds = 0, decode_seconds = 0, total_seconds = 0;
  double mixed_seconds = 0;  // of sweeps that are neither prefill nor decode

  double sweep_seconds() const { return prefill_seconds + decode_seconds + mixed_seconds; }
  static constexpr auto fields() {
    return std::tuple(
        field("load_seconds", &TimingReport::load_seconds), field("prefill_seconds", &TimingReport::prefill_seconds),
        field("decode_seconds", &TimingReport::decode_seconds), field("mixed_seconds", &TimingReport::mixed_seconds),
        field("total_seconds", &TimingReport::total_seconds));
  }
};

/// Where sweeps mix, prefill and decode have no time of their own: their rates are not finite then.
struct ThroughputReport {
  double tokens_per_second = 0;          // FlexGen's measure: generated (or scored) / all sweeps
  double prefill_tokens_per_second = 0;  // prompt tokens / prefill
  double decode_tokens_per_second = 0;   // (generated - sequences) / decode: the first token comes out of prefill
  double read_tokens_per_second = 0;     // both together / all sweeps: what went through the model
  static constexpr auto fields() {
    return std::tuple(field("tokens_per_second", &ThroughputReport::tokens_per_second),
                      field("prefill_tokens_per_second", &ThroughputReport::prefill_tokens_per_second),
                      field("decode_tokens_per_second", &ThroughputReport::decode_tokens_per_second),
                      field("read_tokens_per_second", &ThroughputReport::read_tokens_per_second));
  }
};

/// One resource in one phase: what the policy makes unavoidable, and what was measured.
struct RooflineResource {
  std::string name;  // the key of its fields; ceiling_name(): "matrix", "gpu_memory", "host_to_gpu", ...
  double least_seconds = 0;
  double busy_seconds = 0;  // time in which the resource was in use; not finite: not measured
  double least_bytes = 0;   // 0 for "matrix"
  double operations = 0;    // of "matrix", else 0
  double bytes = 0;         // measured; not finite: not measured
  static constexpr auto fields() {
    return std::tuple(field("least_seconds", &RooflineResource::least_seconds),
                      field("busy_seconds", &RooflineResource::busy_seconds),
                      field("least_bytes", &RooflineResource::least_bytes), field("bytes", &RooflineResource::bytes),
                      field("operations", &RooflineResource::operations));
  }
};

struct RooflinePhase {
  double least_seconds = 0;
  double measured_seconds = 0;
  std::vector<RooflineResource> resources;  // those that the phase uses
};

struct RooflineReport {
  std::string profile;  // file and time of the hardware profile
  double bound_tokens_per_second = 0;
  double fraction = 0;  // throughput / bound
  int rank = 0;         // the slowest stage: the phases are its own
  std::string binding_phase, binding_resource;
  std::string advice;
  RooflinePhase prefill, decode;
  RooflinePhase mixed;                     // of a job whose sweeps mix, all of them; then the two above are empty
  std::vector<double> rank_least_seconds;  // by rank
};

struct Report {
  int schema_version = 1;
  std::string program = "flexgen-dist";
  std::string version;
  std::string command;  // "generate", "bench", ...
  ModelReport model;
  PolicyReport policy;
  JobReport job;
  std::vector<RankReport> ranks;
  TimingReport timing;
  SweepsReport sweeps;
  ThroughputReport throughput;
  std::optional<LengthsReport> lengths;    // of a measurement
  std::optional<ScoreReport> score;        // of a job that scores
  std::optional<RowsReport> rows;          // of a job that has rows
  std::optional<RooflineReport> roofline;  // none without a hardware profile
  std::optional<PredictedReport> predicted;
  std::vector<PlanCheckReport> plan_check;  // of the ranks that had sweeps enough to tell
};

/// The tracer's totals under their names.
ResourceReports resource_reports(const TotalsByResource& totals);
/// Zero where the time is zero. Of the prompts, `saved_prompt_tokens` did not go through the model.
ThroughputReport measure_throughput(const JobReport& job, const TimingReport& timing,
                                    std::uint64_t saved_prompt_tokens = 0);
/// Tiers summed over the ranks.
TierReports sum_tiers(const std::vector<RankReport>& ranks);

/// Every device once, though ranks share it.
std::vector<EnergyReport> sum_energy(const std::vector<RankReport>& ranks);
/// To scratch files of the ssd tier, by all ranks.
std::uint64_t ssd_bytes_written(const std::vector<RankReport>& ranks);
/// The resource that was in use longest in sweeps, and for how long; none where nothing was.
std::optional<std::pair<std::string, double>> busiest_resource(const RankReport& rank);

/// Indented JSON text with a newline at the end. A value that is not finite comes out as null.
std::string to_json(const Report& report);
/// As write_figure_file: replaces `path` as a whole; "-" is standard output. Throws UserError (file).
void write_report(const Report& report, const std::string& path);
/// A few aligned lines for people, each with its newline.
std::string summary(const Report& report);

}  // namespace flexgen
