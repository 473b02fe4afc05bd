#include "app/options.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>

#include "app/option_table.hpp"
#include "app/option_values.hpp"
#include "app/output_option_rows.hpp"
#include "app/policy_option_rows.hpp"
#include "app/row_option_rows.hpp"
#include "app/verify_option_rows.hpp"
#include "base/error.hpp"
#include "run/policy_choice.hpp"
#include "run/rows/score_windows.hpp"
#include "storage/scratch_file.hpp"

namespace flexgen {
namespace {

OptionValue side_into(PromptCut& to) {
  return into::word("error", [&to](const std::string&, const std::string& word) { to = parse_prompt_cut(word); });
}

OptionRow rank_timeout_row(std::chrono::seconds& to) {
  const auto keep = [&to](const std::string& option, const std::string& word) {
    to = std::chrono::seconds(word == "0" ? 0 : positive_number(option, word));
  };
  return {"rank-timeout", "SECONDS", into::word(std::to_string(to.count()), keep),
          "the job ends when a rank has not answered for so long, or none has got anywhere; 0: it waits for ever"};
}

OptionValue sync_into(SyncRule& to) {
  return into::word("seconds", [&to](const std::string& option, const std::string& word) {
    const std::string rule = one_of(option, word, {"rows", "seconds", "end"});
    to = rule == "rows" ? SyncRule::rows : rule == "end" ? SyncRule::end : SyncRule::seconds;
  });
}

std::vector<OptionRow> profile_rows(Options& o) {
  return {
      {"offload-dir", "DIR", into::text(o.machine.offload_dir),
       "directory whose disk is measured; default: $TMPDIR or /tmp"},
      {"output", "FILE", into::text(o.files.output),
       "where the profile goes; default ~/.cache/flexgen-dist/profile-HOST.json"},
      {"device", "NAME", into::one_of({"auto", "cpu", "cuda"}, o.machine.device), "auto | cpu | cuda"},
      {"transport", "NAME", into::one_of({"auto", "mpi", "nccl"}, o.machine.transport),
       "links between ranks to measure: auto (all there are) | mpi | nccl"},
      {"quick", "", into::on_off(o.profile.quick), "fewer points and less data: some seconds, rougher figures"},
      rank_timeout_row(o.machine.rank_timeout),
      {"quiet", "", into::on_off(o.files.quiet), "no log and no table; errors and warnings stay"},
      log_level_row(o.files.log_level),
  };
}

std::vector<OptionRow> doctor_rows(Options& o) {
  return {
      {"model", "DIR", into::text(o.model.name), "the model of the job: is it the same on every rank?"},
      {"path", "DIR", into::text(o.model.path), "folder in which model directories lie"},
      {"offload-dir", "DIR", into::text(o.machine.offload_dir),
       "where the job's scratch files are to go; default: $TMPDIR or /tmp"},
      {"output", "FILE", into::text(o.files.output), "where its results are to go; the file itself is not touched"},
      {"device", "NAME", into::one_of({"auto", "cpu", "cuda"}, o.machine.device), "auto | cpu | cuda"},
      {"gpu-mem", "SIZE", into::bytes(o.machine.gpu_mem),
       "the job's budget of the gpu tier per rank, where it has one"},
      rank_timeout_row(o.machine.rank_timeout),
      {"report", "FILE", into::text(o.files.report), "write all facts and findings as JSON; - is standard output"},
      {"quiet", "", into::on_off(o.files.quiet), "no log, and of the checks only those that found something"},
      log_level_row(o.files.log_level),
  };
}

// "512", or "32:512".
OptionValue range_into(LengthRange& to) {
  return into::word(std::to_string(to.most), [&to](const std::string& option, const std::string& word) {
    const std::size_t colon = word.find(':');
    to.least = positive_number(option, word.substr(0, colon));
    to.most = colon == std::string::npos ? to.least : positive_number(option, word.substr(colon + 1));
    if (to.least > to.most)
      throw UserError(ExitCode::usage, fmt::format("--{} {} has no lengths", option, word), "the first is the least",
                      fmt::format("Give it as --{} {}:{}", option, to.most, to.least));
  });
}

std::vector<OptionRow> bench_rows(Options& o) {
  BenchOptions& bench = o.bench;
  return {
      {"model", "NAME|DIR", into::text(o.model.name),
       "model directory, or the name of a shape in configs/models (opt-125m .. opt-175b)"},
      {"dummy", "", into::on_off(o.model.dummy),
       "random weights, made in place in their tier; only config.json is needed"},
      {"prompt-len", "N|A:B", range_into(bench.prompt_len), "tokens per prompt; A:B: drawn from A to B"},
      {"shared-len", "N", into::count(bench.shared_len), "of these, how many all rows have in common, in front"},
      {"gen-len", "N|A:B", range_into(bench.gen_len), "tokens to generate per row; A:B: drawn from A to B"},
      {"seed", "N", into::count(bench.seed), "of what is drawn: the same rows again"},
      {"input", "FILE...", into::files(o.rows.inputs.paths),
       "take the lengths of these rows (as generate reads them); --gen-len where a row has no max_tokens"},
      {"num-rows", "N", into::count(bench.num_rows),
       "rows of the job; default: one full block per stage, four where lengths are drawn, all of --input"},
      {"static-blocks", "", into::on_off(o.policy.static_blocks),
       "FlexGen's: a block keeps its rows until the last has ended"},
      {"path", "DIR", into::text(o.model.path), "folder in which model directories lie"},
  };
}

std::vector<OptionRow> plan_rows(Options& o) {
  PlanOptions& plan = o.plan;
  return {
      {"model", "NAME|DIR", into::text(o.model.name), "model directory, or the name of a shape in configs/models"},
      {"input", "FILE...", into::files(o.rows.inputs.paths),
       "plan for these rows (as generate reads them); --gen-len where a row has no max_tokens"},
      {"prompt-len", "N|A:B", range_into(o.bench.prompt_len), "without --input: tokens per prompt; A:B: drawn"},
      {"gen-len", "N|A:B", range_into(o.bench.gen_len), "tokens to generate per row; A:B: drawn from A to B"},
      {"num-rows", "N", into::count(o.bench.num_rows), "rows of the job; default: 1000, all of --input"},
      {"path", "DIR", into::text(o.model.path), "folder in which model directories lie"},
      {"profiles", "FILE[*N],...", into::text(plan.profiles),
       "plan for other machines: the profile of each, one rank per machine, FILE*4 for four such"},
      {"explain", "", into::on_off(plan.explain), "the policy given by --percent and others beside the best one"},
      {"save", "FILE", into::text(plan.save), "write the placement of every rank, for --percent FILE"},
      {"more", "BOOL", into::on_off(plan.more), "plan with more memory, one more GPU and box, too"},
  };
}

// Rows in, rows out.
std::vector<OptionRow> row_file_rows(Options& o, bool score) {
  return {
      {"model", "DIR", into::text(o.model.name), "Hugging Face model directory"},
      {"input", "FILE...", into::files(o.rows.inputs.paths),
       score ? "rows in: JSONL with \"text\" or \"prompt\" (text or token ids), CSV, TSV; - is standard input"
             : "rows in: JSONL, plain or OpenAI batch, CSV, TSV; - is standard input"},
      {"output", "FILE", into::text(o.files.output),
       "rows out: JSONL, packed where the name ends in .gz or .zst; - is standard output"},
      {"error-file", "FILE", into::text(o.files.error_file), "errors of rows go here instead"},
      {"overwrite", "", into::on_off(o.files.overwrite), "replace an output file that exists"},
      {"restart", "", into::on_off(o.files.restart), "do a job anew that could be gone on with"},
      {"preserve-order", "", into::on_off(o.files.preserve_order), "results stand as their rows do"},
      {"sync", "WHEN", sync_into(o.files.sync),
       "rows | seconds | end: when results are brought to the disk; a power cut costs what was written since"},
      {"return-token-ids", "", into::on_off(o.rows.return_token_ids),
       score ? "add token_ids to the results" : "add token_ids and prompt_token_ids to the results"},
      {"quality-check", "FILE", into::text(o.rows.quality_check),
       "a text: print its perplexity without and with the compression that is asked for, first"},
  };
}

std::vector<OptionRow> score_rows(ScoreOptions& score, ModelChoice& model) {
  return {
      {"text", "FILE", into::text(score.text), "a file of plain text instead of rows; --output is then optional"},
      {"collapse-whitespace", "", into::on_off(score.collapse_whitespace),
       "with --text: every run of white space becomes one space"},
      {"max-tokens", "N", into::count(score.max_tokens), "only the first N predictions of each text"},
      {"window", "N", into::positive(score.window), "tokens that the model sees at once; default: its positions"},
      {"stride", "N", into::positive(score.stride),
       "tokens from one window to the next; only what is new to a window counts; default: window - 1"},
      {"path", "DIR", into::text(model.path), "folder in which model directories lie"},
  };
}

std::vector<OptionRow> generate_rows(GenerateOptions& generate, RowOptions& rows, ModelChoice& model) {
  const auto keep_pattern = [&generate, &rows](const std::string& option, const std::string& word) {
    generate.retry.pattern = std::make_shared<const AnswerPattern>(word, "--" + option);
    rows.as_given[option] = word;
  };
  return {
      {"gen-len", "N", into::positive(generate.gen_len), "tokens to generate where a row has no max_tokens"},
      {"truncate-prompt", "SIDE", side_into(generate.truncate_prompt),
       "left | right: where a prompt that does not fit is cut; error: its row is an error"},
      {"retry-if-not", "REGEX", into::word("", keep_pattern),
       "ask again, with another seed, where an answer does not match (rows need a temperature)"},
      {"retries-per-row", "N", into::positive(generate.retry.num_retries),
       "with --retry-if-not: how often, of an answer"},
      {"path", "DIR", into::text(model.path), "folder in which model directories lie"},
  };
}

std::vector<OptionRow> machine_rows(MachineRequest& machine) {
  return {
      {"device", "NAME", into::one_of({"auto", "cpu", "cuda"}, machine.device), "auto | cpu | cuda"},
      {"transport", "NAME", into::one_of({"auto", "mpi", "nccl"}, machine.transport),
       "between ranks: auto | mpi | nccl"},
      {"gpu-mem", "SIZE", into::bytes(machine.gpu_mem),
       "budget of the gpu tier per rank, e.g. 15GiB (default: what is free, less a margin)"},
      {"cpu-mem", "SIZE", into::bytes(machine.cpu_mem), "budget of the dram tier per rank"},
      {"disk-mem", "SIZE", into::bytes(machine.disk_mem), "budget of the ssd tier per rank"},
      {"offload-dir", "DIR", into::text(machine.offload_dir),
       "where scratch files of the ssd tier go; default: $TMPDIR or /tmp"},
      rank_timeout_row(machine.rank_timeout),
  };
}

std::vector<OptionTable> tables_of(const std::string& command, Options& o, PendingPolicy& pending) {
  if (command == "profile") return {{"", profile_rows(o)}};
  if (command == "doctor") return {{"", doctor_rows(o)}};
  std::vector<OptionTable> tables;
  if (command == "bench") {
    tables.push_back({"Job", bench_rows(o)});
    tables.push_back({"Job", input_rows(o.rows)});
  } else if (command == "plan") {
    tables.push_back({"Job", plan_rows(o)});
    tables.push_back({"Job", input_rows(o.rows)});
  } else if (command == "verify") {
    tables.push_back({"Job", verify_rows(o)});
    tables.push_back({"Job", input_rows(o.rows)});
  } else {
    const bool score = command == "score";
    tables.push_back({"Job", row_file_rows(o, score)});
    tables.push_back({"Job", input_rows(o.rows)});
    tables.push_back({"Job", row_rule_rows(o.rows)});
    tables.push_back({"Job", score ? score_rows(o.score, o.model) : generate_rows(o.generate, o.rows, o.model)});
  }
  tables.push_back({"Policy (without --percent: as planned from profiles, else gpu, dram, ssd as they fit)",
                    policy_rows(o.policy, o.model, pending)});
  tables.push_back({"Machine", machine_rows(o.machine)});
  const bool has_figures_alone = command == "plan" || command == "verify";
  tables.push_back(
      {"Output", has_figures_alone ? plan_output_rows(o.files, o.machine) : output_rows(o.files, o.machine)});
  return tables;
}

const char* purpose(const std::string& command) {
  if (command == "profile")
    return "Measures what this machine can do at best: links, memory, arithmetic, disk, and the links between ranks.\n"
           "Takes about a minute; nothing else should run meanwhile. bench and generate judge themselves by the "
           "result.\n";
  if (command == "plan")
    return "Finds the best policy of a job from the profiles of its machines, and says what it will take and why.\n"
           "Nothing is loaded or run. Policy flags that are given are kept, the rest is planned around them.\n";
  if (command == "verify")
    return "Runs some rows of a job under its policy and again in float32 without compression: are the tokens\n"
           "the same, and what do 16-bit types and compression cost? The likeliest tokens are compared, without\n"
           "sampling and stop strings. The model is loaded three times. Exit code 1 where the policy fails.\n";
  if (command == "doctor")
    return "Looks, before a job, for what would keep it from running or from running well: program, hosts, memory and\n"
           "limits, GPUs, disk, the model's files, network, clocks and links, on all ranks. Takes some seconds.\n";
  if (command == "bench") return "Measures the throughput of a model and policy on synthetic prompts.\n";
  if (command == "score")
    return "Gives the log-probability of every token of given texts, and their perplexity.\n"
           "A text longer than a window is cut into windows; every token but the first is counted once.\n";
  return "Runs a batch job: one result row for every input row, written as rows finish.\n";
}

[[noreturn]] void refuse(const std::string& problem, const std::string& reason = "", const std::string& hint = "") {
  throw UserError(ExitCode::usage, problem, reason, hint);
}

void check_texts(const ScoreOptions& score, const RowOptions& rows) {
  if (!score.text.empty() && !rows.inputs.paths.empty()) refuse("--input and --text exclude each other");
  if (score.collapse_whitespace && score.text.empty()) refuse("--collapse-whitespace needs --text");
  if (score.window > 1 && score.stride > 0) check_stride(score.stride, score.window);
}

void check_inputs(const std::vector<std::string>& paths) {
  if (std::ranges::count(paths, "-") > 1) refuse("--input has standard input twice", "it can be read once");
  if (std::ranges::count(paths, "") > 0) refuse("--input has an empty name");
}

void check_retries(const GivenOptions& given, RetryRule& retry) {
  if (given.has("retries-per-row") && !retry.pattern) refuse("--retries-per-row needs --retry-if-not");
  if (retry.pattern && retry.num_retries == 0) refuse("--retry-if-not needs --retries-per-row", "", "For example 3");
}

void check_rows(const std::string& command, const Options& o) {
  const bool both = !o.rows.inputs.paths.empty() && !o.files.output.empty();
  const bool neither = o.rows.inputs.paths.empty() && o.files.output.empty();
  const std::string hint = "See flexgen-dist " + command + " --help";
  if (o.files.output.empty())
    for (const auto& [is_given, name] :
         {std::pair(!o.files.error_file.empty(), "error-file"), std::pair(o.files.preserve_order, "preserve-order"),
          std::pair(o.files.restart, "restart")})
      if (is_given) refuse(fmt::format("--{} needs --output", name), "", hint);
  if (command == "score") {
    check_texts(o.score, o.rows);
    const bool needs_none = !o.score.text.empty() || (!o.rows.quality_check.empty() && neither);
    if (!needs_none && !both) refuse("--input and --output, or --text, are needed", "", hint);
  } else if (!both) {
    refuse("--input and --output are needed", "", hint);
  }
}

constexpr std::int64_t rows_of_a_plan = 1000;

void check_lengths(const GivenOptions& given, const Options& o) {
  if (!o.rows.inputs.paths.empty() && given.has("prompt-len")) refuse("--input and --prompt-len exclude each other");
}

void settle_log_level(const GivenOptions& given, OutputFiles& files) {
  if (!files.quiet || files.log_level > log::Level::info) return;
  if (given.has("log-level"))
    refuse(fmt::format("--quiet and --log-level {} exclude each other",
                       files.log_level == log::Level::debug ? "debug" : "info"));
  files.log_level = log::Level::warn;
}

}  // namespace

std::optional<Options> parse_options(const std::string& command, std::vector<std::string> words) {
  Options o;
  PendingPolicy pending;
  const std::optional<GivenOptions> given =
      read_options(command, purpose(command), tables_of(command, o, pending), std::move(words));
  if (!given) return std::nullopt;
  o.command = command;
  o.config = given->config;
  if (!given->has("offload-dir")) o.machine.offload_dir = default_offload_directory().string();
  if (command != "profile" && command != "doctor") {
    if (o.model.name.empty()) refuse("--model is missing", "", "See flexgen-dist " + command + " --help");
    if (command == "bench" || command == "plan") check_lengths(*given, o);
    else if (command == "verify") check_verify(o);
    else check_rows(command, o);
    if (command == "plan" && o.rows.inputs.paths.empty() && o.bench.num_rows == 0) o.bench.num_rows = rows_of_a_plan;
    check_inputs(o.rows.inputs.paths);
    check_retries(*given, o.generate.retry);
    if (o.policy.gpu_batch_size)
      require_token_for_each_row(o.policy.token_budget.value_or(0), *o.policy.gpu_batch_size);
    settle_compression(*given, pending, o);
    settle_attention(*given, pending, o.policy);
  }
  if (given->has("metrics-address") && !given->has("metrics-port")) refuse("--metrics-address needs --metrics-port");
  settle_log_level(*given, o.files);
  return o;
}

}  // namespace flexgen
