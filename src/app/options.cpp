#include "app/options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cxxopts.hpp>

#include "app/arguments.hpp"
#include "app/option_values.hpp"
#include "base/error.hpp"
#include "storage/scratch_file.hpp"

namespace flexgen {
namespace {

using cxxopts::value;

cxxopts::Options describe_profile() {
  cxxopts::Options options(
      "flexgen-dist profile",
      "Measures what this machine can do at best: links, memory, arithmetic, disk, and the links between ranks.\n"
      "Takes about a minute; nothing else should run meanwhile. bench and generate judge themselves by the result.\n");
  options.add_options()("offload-dir", "directory whose disk is measured; default: $TMPDIR or /tmp",
                        value<std::string>(), "DIR")(
      "output", "where the profile goes; default ~/.cache/flexgen-dist/profile-HOST.json", value<std::string>(),
      "FILE")("device", "auto | cpu | cuda", value<std::string>()->default_value("auto"), "NAME")(
      "transport", "links between ranks to measure: auto (all there are) | mpi | nccl",
      value<std::string>()->default_value("auto"), "NAME")(
      "quick", "fewer points and less data: some seconds, rougher figures", value<bool>()->implicit_value("true"))(
      "quiet", "no log and no table; errors and warnings stay", value<bool>()->implicit_value("true"))(
      "log-level", "debug | info | warn | error", value<std::string>()->default_value("info"), "LEVEL")(
      "config", "options from a JSON file; the command line wins", value<std::string>(), "FILE")("h,help", "this text");
  return options;
}

const char* purpose(const std::string& command) {
  if (command == "bench") return "Measures the throughput of a model and policy on synthetic prompts.\n";
  if (command == "score")
    return "Gives the log-probability of every token of given texts, and their perplexity.\n"
           "A text longer than a window is cut into windows; every token but the first is counted once.\n";
  return "Runs a batch job: one result row for every input row, written as rows finish.\n";
}

void add_bench_options(cxxopts::Options& options) {
  options.add_options("Job")(
      "model", "model directory, or the name of a shape in configs/models (opt-125m .. opt-175b)", value<std::string>(),
      "NAME|DIR")("dummy", "random weights, made in place in their tier; only config.json is needed",
                  value<bool>()->implicit_value("true"))("prompt-len", "tokens per prompt",
                                                         value<std::string>()->default_value("512"), "N")(
      "gen-len", "tokens to generate per row", value<std::string>()->default_value("32"), "N")(
      "num-rows", "rows of the job; default: one full block per stage", value<std::string>(), "N");
}

void add_score_options(cxxopts::Options& options) {
  options.add_options("Job")("text", "a file of plain text instead of rows; --output is then optional",
                             value<std::string>(),
                             "FILE")("collapse-whitespace", "with --text: every run of white space becomes one space",
                                     value<bool>()->implicit_value("true"))(
      "max-tokens", "only the first N predictions of each text", value<std::string>(), "N")(
      "window", "tokens that the model sees at once; default: its positions", value<std::string>(), "N")(
      "stride", "tokens from one window to the next; only what is new to a window counts; default: window - 1",
      value<std::string>(), "N");
}

// Rows in, rows out.
void add_row_options(cxxopts::Options& options, const std::string& command) {
  const bool score = command == "score";
  options.add_options("Job")("model", "Hugging Face model directory", value<std::string>(), "DIR")(
      "input",
      score ? "rows in: JSONL with \"text\" or \"prompt\" (text or token ids); - is standard input"
            : "rows in: JSONL, plain or OpenAI batch; - is standard input",
      value<std::string>(), "FILE")("output", "rows out: JSONL; - is standard output", value<std::string>(), "FILE")(
      "overwrite", "replace an output file that exists", value<bool>()->implicit_value("true"))(
      "return-token-ids", score ? "add token_ids to the results" : "add token_ids and prompt_token_ids to the results",
      value<bool>()->implicit_value("true"))(
      "quality-check", "a text: print its perplexity without and with the compression that is asked for, first",
      value<std::string>(), "FILE");
  if (score) add_score_options(options);
  else
    options.add_options("Job")("gen-len", "tokens to generate where a row has no max_tokens",
                               value<std::string>()->default_value("32"), "N")(
        "truncate-prompt", "left | right: where a prompt that does not fit is cut; error: its row is an error",
        value<std::string>()->default_value("error"), "SIDE");
}

cxxopts::Options describe(const std::string& command) {
  if (command == "profile") return describe_profile();
  cxxopts::Options options("flexgen-dist " + command, purpose(command));
  if (command == "bench") add_bench_options(options);
  else add_row_options(options, command);
  options.add_options("Job")("path", "folder in which model directories lie", value<std::string>(), "DIR");
  options.add_options("Policy (none given: weights, cache and hidden states go to gpu, dram, ssd as they fit)")(
      "percent",
      "six numbers: weights on gpu and dram, cache on gpu and dram, hidden states on gpu and dram; the rest lies on "
      "ssd",
      value<std::string>(),
      "wg wc cg cc hg hc")("gpu-batch-size", "rows computed in one call (B)", value<std::string>(), "N")(
      "num-gpu-batches", "micro-batches that share one pass over the weights (K)", value<std::string>(), "N")(
      "dtype",
      "float32 | float16 | bfloat16; default on a CPU bfloat16 where it multiplies that, else float32; on a GPU the "
      "model's own",
      value<std::string>(),
      "TYPE")("overlap", "load and store behind the computation [true]", value<bool>()->implicit_value("true"), "BOOL")(
      "sep-layer", "attention and mlp are two layers of a sweep [true; with --cpu-cache-compute false if it fits]",
      value<bool>()->implicit_value("true"),
      "BOOL")("pin-weight", "pin the host memory of weights [true]", value<bool>()->implicit_value("true"), "BOOL")(
      "compress-weight", "keep weights in groups of 4-bit codes", value<bool>()->implicit_value("true"), "BOOL")(
      "compress-cache", "keep keys and values so, too", value<bool>()->implicit_value("true"), "BOOL")(
      "weight-bits", "4 | 8 bits of a compressed weight", value<std::string>()->default_value("4"), "N")(
      "cache-bits", "4 | 8 bits of a compressed key or value", value<std::string>()->default_value("4"), "N")(
      "compress-group", "32 | 64 | 128 elements that share a scale and a minimum",
      value<std::string>()->default_value("64"), "N")(
      "save-compressed", "with --compress-weight: write the compressed model to this new folder and start from it",
      value<std::string>(), "DIR")("cpu-cache-compute", "decode attention on the CPU for rows whose cache lies in dram",
                                   value<bool>()->implicit_value("true"), "BOOL")(
      "cpu-attention-percent", "with --cpu-cache-compute: of these rows, how many; the others' cache goes to the GPU",
      value<std::string>()->default_value("100"),
      "P")("attn-sparsity", "decode attention uses the values of this share of the keys, those of most weight",
           value<std::string>()->default_value("1"), "X");
  options.add_options("Machine")("device", "auto | cpu | cuda", value<std::string>()->default_value("auto"), "NAME")(
      "transport", "between ranks: auto | mpi | nccl", value<std::string>()->default_value("auto"), "NAME")(
      "gpu-mem", "budget of the gpu tier per rank, e.g. 15GiB (default: what is free, less a margin)",
      value<std::string>(), "SIZE")("cpu-mem", "budget of the dram tier per rank", value<std::string>(), "SIZE")(
      "disk-mem", "budget of the ssd tier per rank", value<std::string>(), "SIZE")(
      "offload-dir", "where scratch files of the ssd tier go; default: $TMPDIR or /tmp", value<std::string>(), "DIR");
  options.add_options("Output")(
      "profile", "hardware profile for the roofline; default: this machine's own (see flexgen-dist profile)",
      value<std::string>(),
      "FILE")("report", "write figures as JSON; - is standard output", value<std::string>(), "FILE")(
      "trace", "write a Chrome trace; - is standard output", value<std::string>(), "FILE")(
      "quiet", "no log, no progress, no summary; errors and warnings stay", value<bool>()->implicit_value("true"))(
      "log-level", "debug | info | warn | error", value<std::string>()->default_value("info"), "LEVEL")(
      "config", "options from a JSON file; the command line wins", value<std::string>(), "FILE")("h,help", "this text");
  return options;
}

const ArgumentRules rules{{"dummy", "quick", "quiet", "collapse-whitespace", "overwrite", "return-token-ids", "overlap",
                           "sep-layer", "pin-weight", "compress-weight", "compress-cache", "cpu-cache-compute", "help"},
                          {"percent"}};

template <class T>
std::optional<T> optional(const cxxopts::ParseResult& parsed, const char* name) {
  return parsed.count(name) ? std::optional<T>(parsed[name].as<T>()) : std::nullopt;
}

std::string text(const cxxopts::ParseResult& parsed, const char* name) {
  return optional<std::string>(parsed, name).value_or("");
}

std::optional<std::uint64_t> size(const cxxopts::ParseResult& parsed, const char* name) {
  const auto given = optional<std::string>(parsed, name);
  return given ? std::optional(size_in_bytes(name, *given)) : std::nullopt;
}

/// Of an option with a default.
const std::string& word(const cxxopts::ParseResult& parsed, const char* name) { return parsed[name].as<std::string>(); }

std::optional<std::int32_t> positive(const cxxopts::ParseResult& parsed, const char* name) {
  const auto given = optional<std::string>(parsed, name);
  return given ? std::optional(positive_number(name, *given)) : std::nullopt;
}

std::int64_t count(const cxxopts::ParseResult& parsed, const char* name) {
  const auto given = optional<std::string>(parsed, name);
  if (!given) return 0;
  const std::int64_t number = whole_number(name, *given);
  if (number < 1) throw UserError(ExitCode::usage, fmt::format("--{} must be at least 1", name), "");
  return number;
}

bool is_on(const cxxopts::ParseResult& parsed, const char* name) {
  return optional<bool>(parsed, name).value_or(false);
}

void read_log_options(const cxxopts::ParseResult& parsed, Options& o) {
  o.quiet = is_on(parsed, "quiet");
  o.log_level = log::parse_level(one_of("log-level", word(parsed, "log-level"), {"debug", "info", "warn", "error"}));
  if (!o.quiet || o.log_level > log::Level::info) return;
  if (parsed.count("log-level"))
    throw UserError(ExitCode::usage, "--quiet and --log-level " + word(parsed, "log-level") + " exclude each other",
                    "");
  o.log_level = log::Level::warn;
}

void read_machine(const cxxopts::ParseResult& parsed, Options& o) {
  o.device = one_of("device", word(parsed, "device"), {"auto", "cpu", "cuda"});
  o.transport = one_of("transport", word(parsed, "transport"), {"auto", "mpi", "nccl"});
  o.offload_dir = optional<std::string>(parsed, "offload-dir").value_or(default_offload_directory().string());
}

QuantFormat compression(const cxxopts::ParseResult& parsed, const char* switch_name, const char* bits_name) {
  if (!is_on(parsed, switch_name)) {
    if (parsed.count(bits_name))
      throw UserError(ExitCode::usage, fmt::format("--{} needs --{}", bits_name, switch_name), "");
    return {};
  }
  const QuantFormat format{positive_number(bits_name, word(parsed, bits_name)),
                           positive_number("compress-group", word(parsed, "compress-group"))};
  if (!format.has_known_bits())
    throw UserError(ExitCode::usage, fmt::format("--{} {} is not known", bits_name, format.bits), "", "Use 4 or 8");
  if (!format.has_known_group())
    throw UserError(ExitCode::usage, fmt::format("--compress-group {} is not known", format.group), "",
                    "Use 32, 64 or 128");
  return format;
}

void read_compression(const cxxopts::ParseResult& parsed, Options& o) {
  o.weight_format = compression(parsed, "compress-weight", "weight-bits");
  o.cache_format = compression(parsed, "compress-cache", "cache-bits");
  if (parsed.count("compress-group") && o.weight_format.is_none() && o.cache_format.is_none())
    throw UserError(ExitCode::usage, "--compress-group needs --compress-weight or --compress-cache", "");
  const double share = real_number_to("cpu-attention-percent", word(parsed, "cpu-attention-percent"), 100);
  if (is_on(parsed, "cpu-cache-compute")) o.cpu_attention_percent = share;
  else if (parsed.count("cpu-attention-percent"))
    throw UserError(ExitCode::usage, "--cpu-attention-percent needs --cpu-cache-compute", "");
  o.save_compressed = text(parsed, "save-compressed");
  if (!o.save_compressed.empty() && o.dummy)
    throw UserError(ExitCode::usage, "--save-compressed and --dummy exclude each other",
                    "there are no weights to keep");
  o.attn_sparsity = real_number_to("attn-sparsity", word(parsed, "attn-sparsity"), 1);
}

Options read_profile(const cxxopts::ParseResult& parsed) {
  Options o;
  o.output = text(parsed, "output");
  o.quick = is_on(parsed, "quick");
  read_machine(parsed, o);
  read_log_options(parsed, o);
  return o;
}

void read_score(const cxxopts::ParseResult& parsed, Options& o) {
  o.text = text(parsed, "text");
  o.collapse_whitespace = is_on(parsed, "collapse-whitespace");
  if (!o.text.empty() && !o.input.empty())
    throw UserError(ExitCode::usage, "--input and --text exclude each other", "");
  if (o.collapse_whitespace && o.text.empty())
    throw UserError(ExitCode::usage, "--collapse-whitespace needs --text", "");
  o.max_tokens = count(parsed, "max-tokens");
  o.window = positive(parsed, "window").value_or(0);
  o.stride = positive(parsed, "stride").value_or(0);
}

void read_files(const std::string& command, const cxxopts::ParseResult& parsed, Options& o) {
  o.input = text(parsed, "input");
  o.output = text(parsed, "output");
  o.overwrite = is_on(parsed, "overwrite");
  o.return_token_ids = is_on(parsed, "return-token-ids");
  o.quality_check = text(parsed, "quality-check");
  const std::string hint = "See flexgen-dist " + command + " --help";
  if (command == "score") {
    read_score(parsed, o);
    if (!o.text.empty() || (!o.quality_check.empty() && o.input.empty() && o.output.empty())) return;
    if (o.input.empty() || o.output.empty())
      throw UserError(ExitCode::usage, "--input and --output, or --text, are needed", "", hint);
  } else if (o.input.empty() || o.output.empty()) {
    throw UserError(ExitCode::usage, "--input and --output are needed", "", hint);
  } else {
    o.truncate_prompt = parse_prompt_cut(parsed["truncate-prompt"].as<std::string>());
  }
}

std::array<double, 6> read_percent(const std::string& words) {
  const std::vector<double> given = number_list("percent", words);
  std::array<double, 6> percent{};
  if (given.size() != percent.size())
    throw UserError(ExitCode::usage, fmt::format("--percent takes six numbers, not {}", given.size()), "",
                    "For example --percent 20 80 0 100 0 100");
  std::copy(given.begin(), given.end(), percent.begin());
  return percent;
}

Options read(const std::string& command, const cxxopts::ParseResult& parsed) {
  if (command == "profile") return read_profile(parsed);
  Options o;
  o.model = text(parsed, "model");
  o.path = text(parsed, "path");
  if (o.model.empty())
    throw UserError(ExitCode::usage, "--model is missing", "", "See flexgen-dist " + command + " --help");
  if (command != "score") o.gen_len = positive_number("gen-len", word(parsed, "gen-len"));
  if (command == "bench") {
    o.dummy = is_on(parsed, "dummy");
    o.prompt_len = positive_number("prompt-len", word(parsed, "prompt-len"));
    o.num_rows = count(parsed, "num-rows");
  } else {
    read_files(command, parsed, o);
  }
  if (const auto words = optional<std::string>(parsed, "percent")) o.percent = read_percent(*words);
  o.gpu_batch_size = positive(parsed, "gpu-batch-size");
  o.num_gpu_batches = positive(parsed, "num-gpu-batches");
  if (const auto dtype = optional<std::string>(parsed, "dtype")) o.dtype = data_type("dtype", *dtype);
  o.overlap = optional<bool>(parsed, "overlap").value_or(true);
  o.sep_layer = optional<bool>(parsed, "sep-layer");
  o.pin_weight = optional<bool>(parsed, "pin-weight").value_or(true);
  read_compression(parsed, o);
  if (!o.quality_check.empty() && o.weight_format.is_none() && o.cache_format.is_none())
    throw UserError(ExitCode::usage, "--quality-check needs --compress-weight or --compress-cache",
                    "without compression there is nothing to compare");
  read_machine(parsed, o);
  o.gpu_mem = size(parsed, "gpu-mem");
  o.cpu_mem = size(parsed, "cpu-mem");
  o.disk_mem = size(parsed, "disk-mem");
  o.profile = text(parsed, "profile");
  o.report = text(parsed, "report");
  o.trace = text(parsed, "trace");
  read_log_options(parsed, o);
  return o;
}

}  // namespace

std::optional<Options> parse_options(const std::string& command, std::vector<std::string> words) {
  cxxopts::Options options = describe(command);
  NormalArguments arguments = normalize_arguments(std::move(words), rules);
  std::string program = "flexgen-dist";
  std::vector<char*> argv{program.data()};
  for (std::string& word : arguments.words) argv.push_back(word.data());
  int argc = static_cast<int>(argv.size());
  argv.push_back(nullptr);
  char** all = argv.data();
  try {
    const cxxopts::ParseResult parsed = options.parse(argc, all);
    if (parsed.count("help")) {
      std::fputs(options.help().c_str(), stdout);
      return std::nullopt;
    }
    if (!parsed.unmatched().empty())
      throw UserError(ExitCode::usage, "'" + parsed.unmatched().front() + "' is not an option of " + command, "",
                      "See flexgen-dist " + command + " --help");
    Options o = read(command, parsed);
    o.command = command;
    o.config = arguments.config;
    return o;
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {  // cxxopts' own hierarchy differs between its versions
    throw UserError(ExitCode::usage, error.what(), "", "See flexgen-dist " + command + " --help");
  }
}

}  // namespace flexgen
