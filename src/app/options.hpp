// The options of every command, parsed and checked. Plain data; a command reads those that it has.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "app/prompt_fit.hpp"
#include "base/log.hpp"
#include "spec/dtype.hpp"
#include "spec/quantization.hpp"

namespace flexgen {

struct Options {
  // what runs
  std::string command;  // "generate", ...
  std::string model;
  std::string path;  // FlexGen's: where model folders lie
  std::string input, output;
  bool return_token_ids = false;
  bool overwrite = false;
  bool dummy = false;
  std::int32_t prompt_len = 512;
  std::int32_t gen_len = 32;
  PromptCut truncate_prompt = PromptCut::none;
  std::string text;  // score: a plain text instead of rows
  bool collapse_whitespace = false;
  std::int64_t max_tokens = 0;          // score: predictions of each text; 0: all
  std::int32_t window = 0, stride = 0;  // score, in tokens; 0: the model's positions, window - 1
  std::string quality_check;            // a text by which compression is judged
  std::int64_t num_rows = 0;            // bench; 0: one full block per group

  // policy
  std::optional<std::array<double, 6>> percent;
  std::optional<std::int32_t> gpu_batch_size, num_gpu_batches;
  std::optional<DType> dtype;
  bool overlap = true;
  std::optional<bool> sep_layer;  // none: true, but for attention on the host where one layer fits
  bool pin_weight = true;
  QuantFormat weight_format, cache_format;
  double cpu_attention_percent = 0;  // of rows whose cache is in dram; 0 without --cpu-cache-compute
  double attn_sparsity = 1;
  std::string save_compressed;

  // machine
  std::string device = "auto";     // auto | cpu | cuda
  std::string transport = "auto";  // auto | mpi | nccl
  std::optional<std::uint64_t> gpu_mem, cpu_mem, disk_mem;
  std::string offload_dir;
  std::string profile;  // hardware profile; empty: the machine's own file
  bool quick = false;   // profile: fewer points, less data

  // output
  std::string report, trace;
  std::string config;  // where options were read from
  bool quiet = false;
  log::Level log_level = log::Level::info;

  /// Do results or figures go to standard output?
  bool writes_to_stdout() const { return output == "-" || report == "-" || trace == "-"; }
};

/// Parses a command's words (after its name). Empty when help was asked for and printed.
/// Throws UserError (usage): an unknown option, a bad value, or one that cannot be honoured.
std::optional<Options> parse_options(const std::string& command, std::vector<std::string> words);

}  // namespace flexgen
