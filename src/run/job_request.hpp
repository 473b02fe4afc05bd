// What is asked of a job, in groups: a room takes the group that it needs. Plain data, checked where it was parsed.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/log.hpp"
#include "job/output/output_store.hpp"
#include "policy/planner/plan_wishes.hpp"
#include "spec/dtype.hpp"
#include "spec/policy.hpp"
#include "spec/quantization.hpp"

namespace flexgen {

/// Which model, and as what it is run.
struct ModelChoice {
  std::string name;             // --model: a folder, or what it is called
  std::string path;             // FlexGen's: where model folders lie
  bool dummy = false;           // random weights: the shape is enough
  std::string save_compressed;  // the folder to which it is written compressed, and from which it is then run
};

/// How the job is to be run; what is left open is chosen.
struct PolicyRequest {
  std::optional<Placement> placement;
  std::vector<StageWishes> stages;                  // by rank, in the place of placement and others; may be empty
  std::optional<std::vector<std::int32_t>> slices;  // decoder layers by rank
  std::optional<std::int32_t> gpu_batch_size, num_gpu_batches;
  std::optional<std::int32_t> token_budget;  // of a micro-batch in a sweep
  bool static_blocks = false;                // blocks keep their rows until the last has ended
  std::optional<bool> prefix_sharing;        // of rows that begin alike; none: where it can be done
  std::optional<DType> dtype;
  bool overlap = true;
  std::optional<bool> sep_layer;  // none: true, but for attention on the host where one layer fits
  bool pin_weight = true;
  QuantFormat weight_format, cache_format;
  std::int32_t fewest_bits = 0;                 // to which the plan may compress weights and cache; 0: not at all
  std::optional<double> cpu_attention_percent;  // of rows whose cache is in dram; 0: of none; none: as planned
  double attn_sparsity = 1;

  /// By the user: no plan is wanted.
  bool is_placed() const { return placement.has_value() || !stages.empty(); }
  /// Some rank's processors attend for sure.
  bool wants_host_attention() const {
    const auto attends = [](const StageWishes& rank) { return rank.host_attention_percent.value_or(0) > 0; };
    return cpu_attention_percent.value_or(0) > 0 || std::ranges::any_of(stages, attends);
  }
};

/// What a job may use of the machine.
struct MachineRequest {
  std::string device = "auto";                              // auto | cpu | cuda
  std::string transport = "auto";                           // auto | mpi | nccl
  std::optional<std::uint64_t> gpu_mem, cpu_mem, disk_mem;  // bytes per rank; none: what is free
  std::string offload_dir;
  std::string profile;                    // the file of its ceilings; empty: the machine's own
  std::string measure = "auto";           // a machine without one, before a plan: auto (a large job) | always | never
  bool replan = false;                    // what the first sweeps tell is kept in it, and gone by
  std::chrono::seconds rank_timeout{60};  // for which a rank may not answer; 0: for ever
};

/// Where results, figures and words go. "-" is standard output, empty nowhere.
struct OutputFiles {
  std::string output;
  std::string error_file;  // of rows that fail; empty: where the others go
  bool overwrite = false;
  bool restart = false;         // what an earlier run of the job has done does not count
  bool preserve_order = false;  // results stand as their rows do
  SyncRule sync = SyncRule::seconds;
  std::string report, trace;
  std::string page;  // --report of a name that ends in .html
  std::string metrics_address = "127.0.0.1";
  std::int32_t metrics_port = 0;  // 0: nobody is told
  bool quiet = false;
  log::Level log_level = log::Level::info;

  const std::string& errors_to() const { return error_file.empty() ? output : error_file; }
  bool use_stdout() const { return output == "-" || report == "-" || trace == "-"; }
};

/// All that a run on all ranks is asked for beside its model and rows.
struct JobRequest {
  PolicyRequest policy;
  MachineRequest machine;
  OutputFiles files;
};

}  // namespace flexgen
