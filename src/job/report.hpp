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
#include <vector>

#include "base/trace.hpp"

namespace flexgen {

/// Bytes per tensor class.
struct ClassBytes {
  std::uint64_t weights = 0;
  std::uint64_t cache = 0;   // KV cache
  std::uint64_t hidden = 0;  // hidden states between layers

  std::uint64_t total() const { return weights + cache + hidden; }
  ClassBytes& operator+=(const ClassBytes& other);
};

struct TierReport {
  std::uint64_t capacity_bytes = 0;  // the budget
  ClassBytes requested;              // what the placement asked for
  ClassBytes achieved;               // what was placed
  std::uint64_t peak_bytes = 0;      // most ever in use, staging buffers included

  TierReport& operator+=(const TierReport& other);  // peaks add up: ranks have memory of their own
};

struct TierReports {
  TierReport gpu, dram, ssd;
};

struct ResourceReport {
  double busy_seconds = 0;  // lengths of all operations, summed
  std::uint64_t bytes = 0;
  std::uint64_t count = 0;
  double occupied_seconds = 0;  // time in which at least one was under way
};
using ResourceReports = std::map<std::string, ResourceReport>;  // by resource_name(): "compute", "host_to_gpu", ...

struct RankReport {
  int rank = 0;
  std::string host;
  std::string device;  // "NVIDIA H100 80GB HBM3", "cpu"
  int first_layer = 0;
  int num_layers = 0;
  TierReports tiers;
  ResourceReports resources;
  ResourceReports prefill_resources, decode_resources;  // those of the phase; loading is in neither
  double load_seconds = 0;                              // reading the checkpoint
  double pinning_seconds = 0;                           // of it: taking and pinning host memory
  double sweep_seconds = 0;                             // inside sweeps
  double busy_fraction = 0;                             // of the time after loading in which compute was busy, 0 .. 1
  std::uint64_t peak_host_bytes = 0;                    // peak resident size of the process
};

struct ModelReport {
  std::string name, family;
  int layers = 0;
  int hidden = 0;
  std::uint64_t parameters = 0;
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
};

struct JobReport {
  std::uint64_t rows = 0;  // of the input, failed ones included
  std::uint64_t failed_rows = 0;
  std::uint64_t sequences = 0;  // prompts that ran; a row may hold several
  std::uint64_t prompt_tokens = 0;
  std::uint64_t generated_tokens = 0;
  std::uint64_t scored_tokens = 0;  // whose log-probability was counted
};

/// Of a job that scores: over all texts.
struct ScoreReport {
  std::uint64_t tokens = 0;
  double log_probability = 0;  // summed, natural logarithm

  double perplexity() const;  // not finite where nothing was scored
};

struct TimingReport {
  double load_seconds = 0, prefill_seconds = 0, decode_seconds = 0, total_seconds = 0;
};

struct ThroughputReport {
  double tokens_per_second = 0;          // FlexGen's measure: generated (or scored) / (prefill + decode)
  double prefill_tokens_per_second = 0;  // prompt tokens / prefill
  double decode_tokens_per_second = 0;   // (generated - sequences) / decode: the first token comes out of prefill
};

/// One resource in one phase: what the policy makes unavoidable, and what was measured.
struct RooflineResource {
  std::string name;  // ceiling_name(): "matrix", "gpu_memory", "host_to_gpu", ...
  double least_seconds = 0;
  double busy_seconds = 0;  // time in which the resource was in use; not finite: not measured
  double least_bytes = 0;   // 0 for "matrix"
  double operations = 0;    // of "matrix", else 0
  double bytes = 0;         // measured; not finite: not measured
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
  ThroughputReport throughput;
  std::optional<ScoreReport> score;        // of a job that scores
  std::optional<RooflineReport> roofline;  // none without a hardware profile
};

/// The tracer's totals under their names.
ResourceReports resource_reports(const TotalsByResource& totals);
/// Zero where the time is zero.
ThroughputReport measure_throughput(const JobReport& job, const TimingReport& timing);
/// Tiers summed over the ranks.
TierReports sum_tiers(const std::vector<RankReport>& ranks);

/// Indented JSON text with a newline at the end. A value that is not finite comes out as null.
std::string to_json(const Report& report);
/// As write_figure_file: replaces `path` as a whole; "-" is standard output. Throws UserError (file).
void write_report(const Report& report, const std::string& path);
/// A few aligned lines for people, each with its newline.
std::string summary(const Report& report);

}  // namespace flexgen
