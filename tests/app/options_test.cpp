#include "app/options.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "storage/scratch_file.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

Options parse(const std::string& command, const std::string& line) {
  std::istringstream stream(line);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return parse_options(command, words).value();
}

void expect_usage_error(const std::string& command, const std::string& line, const std::string& part) {
  try {
    parse(command, line);
    ADD_FAILURE() << "was accepted: " << line;
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::usage) << line;
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << line << "\n" << error.what();
  }
}

TEST(Options, AFlexGenCommandLineCanBePasted) {
  const Options o =
      parse("bench",
            "--model facebook/opt-1.3b --path /data/w --offload-dir X --percent 20 80 0 100 0 100 "
            "--gpu-batch-size 48 --num-gpu-batches 3 --prompt-len 256 --gen-len 16 --pin-weight 0 --overlap True "
            "--sep-layer False --attn-sparsity 1.0");
  EXPECT_EQ(o.model.name, "facebook/opt-1.3b");
  EXPECT_EQ(o.model.path, "/data/w");
  EXPECT_EQ(o.machine.offload_dir, "X");
  EXPECT_EQ(o.policy.placement, make_placement({20, 80, 0, 100, 0, 100}));
  EXPECT_EQ(o.policy.gpu_batch_size, 48);
  EXPECT_EQ(o.policy.num_gpu_batches, 3);
  EXPECT_EQ(o.bench.prompt_len, (LengthRange{256, 256}));
  EXPECT_EQ(o.bench.gen_len, (LengthRange{16, 16}));
  EXPECT_FALSE(o.policy.pin_weight);
  EXPECT_TRUE(o.policy.overlap);
  EXPECT_EQ(o.policy.sep_layer, false);
}

TEST(Options, Defaults) {
  const Options o = parse("bench", "--model m");
  EXPECT_EQ(o.bench.prompt_len, (LengthRange{512, 512}));
  EXPECT_EQ(o.bench.gen_len, (LengthRange{32, 32}));
  EXPECT_EQ(o.bench.num_rows, 0);
  EXPECT_FALSE(o.policy.placement || o.policy.gpu_batch_size || o.policy.num_gpu_batches || o.policy.dtype ||
               o.machine.gpu_mem || o.machine.cpu_mem || o.machine.disk_mem);
  EXPECT_TRUE(o.policy.overlap && o.policy.pin_weight);
  EXPECT_FALSE(o.policy.sep_layer.has_value());
  EXPECT_FALSE(o.model.dummy);
  EXPECT_EQ(o.machine.device, "auto");
  EXPECT_EQ(o.machine.transport, "auto");
}

TEST(Options, BenchDrawsLengthsOrTakesThoseOfAnInput) {
  const Options drawn = parse("bench", "--model m --prompt-len 32:512 --gen-len 8:256 --seed 7 --static-blocks");
  EXPECT_EQ(drawn.bench.prompt_len, (LengthRange{32, 512}));
  EXPECT_EQ(drawn.bench.gen_len, (LengthRange{8, 256}));
  EXPECT_EQ(drawn.bench.seed, 7);
  EXPECT_TRUE(drawn.policy.static_blocks);
  EXPECT_EQ(parse("bench", "--model m --input rows.jsonl --gen-len 9").rows.inputs.paths,
            std::vector<std::string>{"rows.jsonl"});
  expect_usage_error("bench", "--model m --prompt-len 512:32", "--prompt-len 512:32 has no lengths");
  expect_usage_error("bench", "--model m --gen-len 8:", "--gen-len ''");
  expect_usage_error("bench", "--model m --gen-len :8", "--gen-len ''");
  expect_usage_error("bench", "--model m --gen-len 0:8", "--gen-len 0");
  expect_usage_error("bench", "--model m --gen-len 1:2:3", "2:3");
  expect_usage_error("bench", "--model m --seed 0", "--seed");
  expect_usage_error("bench", "--model m --input i --prompt-len 8", "exclude each other");
}

TEST(Options, ATokenBudgetHasATokenForEveryRow) {
  for (const char* command :
       {"bench --model m", "generate --model m --input i --output o", "score --model m --text t"}) {
    const std::string line = command;
    const std::string name = line.substr(0, line.find(' ')), rest = line.substr(line.find(' '));
    EXPECT_EQ(parse(name, rest + " --token-budget 64 --gpu-batch-size 64").policy.token_budget, 64);
    EXPECT_FALSE(parse(name, rest).policy.token_budget);
    expect_usage_error(name, rest + " --token-budget 63 --gpu-batch-size 64", "--token-budget 63 is too small");
  }
}

TEST(Options, ScoreHasTextsAndWindows) {
  const Options rows = parse("score", "--model m --input i --output o --window 512 --stride 256 --max-tokens 100");
  EXPECT_EQ(rows.score.window, 512);
  EXPECT_EQ(rows.score.stride, 256);
  EXPECT_EQ(rows.score.max_tokens, 100);
  const Options text = parse("score", "--model m --text t --collapse-whitespace --percent 0 50 0 50 0 50");
  EXPECT_EQ(text.score.text, "t");
  EXPECT_TRUE(text.score.collapse_whitespace && text.files.output.empty() && text.policy.placement);
  EXPECT_EQ(text.score.window + text.score.stride + text.score.max_tokens, 0);
  EXPECT_EQ(parse("score", "--model m --quality-check q --compress-cache").rows.quality_check, "q");
  EXPECT_EQ(parse("generate", "--model m --input i --output o --quality-check q --compress-weight").rows.quality_check,
            "q");
  expect_usage_error("score", "--model m", "--input and --output, or --text, are needed");
  expect_usage_error("score", "--model m --input i", "--input and --output, or --text, are needed");
  expect_usage_error("score", "--model m --input i --output o --text t", "exclude each other");
  expect_usage_error("score", "--model m --input i --output o --collapse-whitespace", "needs --text");
  expect_usage_error("score", "--model m --text t --window 0", "--window 0 makes no sense");
  expect_usage_error("score", "--model m --text t --max-tokens 0", "--max-tokens");
  expect_usage_error("score", "--model m --text t --gen-len 3", "gen-len");
  expect_usage_error("score", "--model m --text t --quality-check q", "--quality-check needs");
  expect_usage_error("bench", "--model m --quality-check q --compress-cache", "quality-check");
}

TEST(Options, VerifyTakesRowsAndLimits) {
  const Options plain = parse("verify", "--model m --input i");
  EXPECT_EQ(plain.verify.num_rows, 16);
  EXPECT_FALSE(plain.verify.seed || plain.verify.max_perplexity_increase);
  const Options o = parse("verify", "--model m --input i --rows 5 --seed 0 --max-perplexity-increase 0 --report r");
  EXPECT_EQ(o.verify.num_rows, 5);
  EXPECT_EQ(o.verify.seed, 0U);
  EXPECT_EQ(o.verify.max_perplexity_increase, 0);
  expect_usage_error("verify", "--model m", "--input is missing");
  expect_usage_error("verify", "--input i", "--model is missing");
  expect_usage_error("verify", "--model m --input i --max-perplexity-increase -1", "negative");
  expect_usage_error("verify", "--model m --input i --output o", "output");
}

TEST(Options, AReportIsAPageOrFiguresOrBoth) {
  const std::string words = "--model m --input i --output o ";
  Options o = parse("generate", words + "--report job.html");
  EXPECT_EQ(o.files.page, "job.html");
  EXPECT_TRUE(o.files.report.empty());
  for (const char* both : {"--report a.json --report b.html", "--report=b.html --report=a.json"}) {
    o = parse("generate", words + both);
    EXPECT_EQ(o.files.report, "a.json");
    EXPECT_EQ(o.files.page, "b.html");
  }
  expect_usage_error("generate", words + "--report a.html --report b.html", "--report names two pages");
  expect_usage_error("generate", words + "--report a --report -", "--report names two JSON files");
}

TEST(Options, MetricsHaveAPort) {
  const std::string words = "--model m --dummy ";
  EXPECT_EQ(parse("bench", words).files.metrics_port, 0);
  const Options o = parse("bench", words + "--metrics-port 9100 --metrics-address 0.0.0.0");
  EXPECT_EQ(o.files.metrics_port, 9100);
  EXPECT_EQ(o.files.metrics_address, "0.0.0.0");
  EXPECT_EQ(parse("bench", words + "--metrics-port 65535").files.metrics_address, "127.0.0.1");
  expect_usage_error("bench", words + "--metrics-port 65536", "--metrics-port 65536 is no port");
  expect_usage_error("bench", words + "--metrics-port 0", "--metrics-port");
  expect_usage_error("bench", words + "--metrics-address ::1", "--metrics-address needs --metrics-port");
}

TEST(Options, GenerateHasFiles) {
  const Options o =
      parse("generate",
            "--model m --input in.jsonl --output - --overwrite --return-token-ids --gpu-mem 15GiB "
            "--cpu-mem 1.5GB --disk-mem 4096 --dtype bfloat16 --device cpu --report r --trace t --log-level warn");
  EXPECT_EQ(o.rows.inputs.paths, std::vector<std::string>{"in.jsonl"});
  EXPECT_EQ(o.files.output, "-");
  EXPECT_TRUE(o.files.overwrite && o.rows.return_token_ids);
  EXPECT_EQ(o.machine.gpu_mem, 15 * GiB);
  EXPECT_EQ(o.machine.cpu_mem, 1'500'000'000U);
  EXPECT_EQ(o.machine.disk_mem, 4096U);
  EXPECT_EQ(o.policy.dtype, DType::bfloat16);
  EXPECT_EQ(o.files.report, "r");
  EXPECT_EQ(o.files.trace, "t");
  EXPECT_EQ(o.files.log_level, log::Level::warn);
  EXPECT_FALSE(parse("generate", "--model m --input i --output o --overwrite false").files.overwrite);
}

TEST(Options, WhatIsMissingOrUnknownIsAUsageError) {
  expect_usage_error("bench", "", "--model");
  expect_usage_error("generate", "--model m --input i", "--output");
  expect_usage_error("generate", "--model m --output o", "--input");
  expect_usage_error("bench", "--model m --nonsense 5", "nonsense");
  expect_usage_error("bench", "--model m --nonsense", "nonsense");
  expect_usage_error("bench", "--model m stray", "stray");
  expect_usage_error("generate", "--model m --input i --output o --dummy", "dummy");
  expect_usage_error("generate", "--model m --input i --output o --static-blocks", "static-blocks");
  expect_usage_error("bench", "--model m --verbose 2", "verbose");
}

TEST(Options, BadValuesAreUsageErrors) {
  expect_usage_error("bench", "--model m --gen-len 0", "--gen-len 0");
  expect_usage_error("bench", "--model m --gen-len -4", "-4");
  expect_usage_error("bench", "--model m --gen-len many", "many");
  expect_usage_error("bench", "--model m --gen-len 99999999999", "99999999999");
  expect_usage_error("bench", "--model m --gen-len 3.5", "3.5");
  expect_usage_error("bench", "--model m --prompt-len 0", "--prompt-len 0");
  expect_usage_error("bench", "--model m --num-rows 0", "--num-rows");
  expect_usage_error("bench", "--model m --gpu-batch-size 0", "--gpu-batch-size 0");
  expect_usage_error("bench", "--model m --num-gpu-batches -1", "--num-gpu-batches -1");
  expect_usage_error("bench", "--model m --percent 1 2 3 4 5", "six numbers, not 5");
  expect_usage_error("bench", "--model m --percent 1 2 3 4 5 6 7", "six numbers, not 7");
  expect_usage_error("bench", "--model m --percent", "percent");
  expect_usage_error("bench", "--model m --percent a b c d e f", "percent");
  expect_usage_error("bench", "--model m --dtype int4", "int4");
  expect_usage_error("bench", "--model m --device tpu", "cpu, cuda");
  expect_usage_error("bench", "--model m --transport pigeon", "mpi, nccl");
  expect_usage_error("bench", "--model m --gpu-mem lots", "lots");
  expect_usage_error("bench", "--model m --log-level loud", "loud");
  expect_usage_error("bench", "--model m --overlap=maybe", "maybe");
  expect_usage_error("bench", "--model", "model");
}

// Every option that has a value, with one that cannot be: the message names the option and the value.
TEST(Options, ErrorsNameTheirOption) {
  for (const char* name :
       {"gen-len",        "prompt-len", "num-rows",       "gpu-batch-size",    "num-gpu-batches", "gpu-mem",
        "cpu-mem",        "disk-mem",   "overlap",        "sep-layer",         "pin-weight",      "compress-weight",
        "prefix-sharing", "shared-len", "compress-cache", "cpu-cache-compute", "dummy",           "quiet",
        "attn-sparsity",  "dtype",      "device",         "transport",         "log-level",       "percent"})
    for (const char* word : {"1e3x", "15XB", "", "nan"}) {
      const std::string option = std::string("--") + name;
      expect_usage_error("bench", "--model m " + option + "=" + word, option + " " + (*word ? word : "''"));
    }
  expect_usage_error("bench", "--model m --gen-len 1e3", "--gen-len 1e3 is not a whole number");
  expect_usage_error("bench", "--model m --gpu-mem 15XB", "--gpu-mem 15XB is not a size");
  expect_usage_error("bench", "--model m --compress-weight --weight-bits four", "--weight-bits four");
  expect_usage_error("bench", "--model m --compress-weight --compress-group x", "--compress-group x");
  expect_usage_error("bench", "--model m --cpu-cache-compute --cpu-attention-percent all",
                     "--cpu-attention-percent all");
  for (const char* name : {"window", "stride", "max-tokens"})
    expect_usage_error("score", std::string("--model m --text t --") + name + " 1e3",
                       std::string("--") + name + " 1e3");
  for (const char* name : {"quick", "quiet", "device", "transport", "log-level"})
    expect_usage_error("profile", std::string("--") + name + "=x", std::string("--") + name + " x");
}

TEST(Options, PercentMayBeOneWord) {
  const Placement wanted = make_placement({100, 0, 12.5, 0, 100, 0});
  for (const char* words : {"100 0 12.5 0 100 0", "100,0,12.5,0,100,0", "100, 0, 12.5, 0, 100, 0"}) {
    EXPECT_EQ(parse_options("bench", {"--model", "m", "--percent", words})->policy.placement, wanted) << words;
    EXPECT_EQ(parse_options("bench", {"--model", "m", std::string("--percent=") + words})->policy.placement, wanted)
        << words;
  }
}

TEST(Options, Quiet) {
  EXPECT_FALSE(parse("bench", "--model m").files.quiet);
  const Options o = parse("generate", "--model m --input i --output o --quiet");
  EXPECT_TRUE(o.files.quiet);
  EXPECT_EQ(o.files.log_level, log::Level::warn);
  EXPECT_EQ(parse("profile", "--quiet --log-level error").files.log_level, log::Level::error);
  expect_usage_error("bench", "--model m --quiet --log-level debug", "exclude each other");
}

TEST(Options, ScratchFilesGoToTheTemporaryFolder) {
  EXPECT_EQ(parse("bench", "--model m").machine.offload_dir, default_offload_directory());
  EXPECT_EQ(parse("profile", "").machine.offload_dir, default_offload_directory());
  EXPECT_EQ(parse("profile", "--offload-dir X").machine.offload_dir, "X");
  EXPECT_EQ(parse("doctor", "").machine.offload_dir, default_offload_directory());
  EXPECT_EQ(parse("doctor", "--model M --output O").model.name, "M");
  EXPECT_THROW(parse("doctor", "--input I"), UserError);
}

TEST(Options, Compression) {
  const Options none = parse("bench", "--model m --compress-weight False");
  EXPECT_TRUE(none.policy.weight_format.is_none());
  EXPECT_TRUE(none.policy.cache_format.is_none());
  EXPECT_EQ(none.policy.cpu_attention_percent, std::nullopt) << "as planned";
  const Options both = parse("bench", "--model m --compress-weight --compress-cache True --cache-bits 8");
  EXPECT_EQ(both.policy.weight_format, (QuantFormat{4, 64}));
  EXPECT_EQ(both.policy.cache_format, (QuantFormat{8, 64}));
  EXPECT_EQ(parse("bench", "--model m --compress-weight --compress-group 32").policy.weight_format,
            (QuantFormat{4, 32}));
  expect_usage_error("bench", "--model m --compress-weight --weight-bits 3", "4 or 8");
  expect_usage_error("bench", "--model m --weight-bits 8", "--compress-weight");
  expect_usage_error("bench", "--model m --compress-group 32", "--compress-weight");
  expect_usage_error("bench", "--model m --compress-cache --compress-group 48", "32, 64 or 128");
}

TEST(Options, AttentionOnTheCpu) {
  EXPECT_EQ(parse("bench", "--model m --cpu-cache-compute").policy.cpu_attention_percent, 100);
  EXPECT_EQ(parse("bench", "--model m --cpu-cache-compute --cpu-attention-percent 60").policy.cpu_attention_percent,
            60);
  EXPECT_EQ(parse("bench", "--model m --attn-sparsity 0.1").policy.attn_sparsity, 0.1);
  expect_usage_error("bench", "--model m --cpu-attention-percent 60", "--cpu-cache-compute");
  expect_usage_error("bench", "--model m --cpu-cache-compute --cpu-attention-percent 0", "above 0");
  expect_usage_error("bench", "--model m --attn-sparsity 1.5", "at most 1");
}

// What can be refused without a model is refused before one is read.
TEST(Options, PoliciesThatCannotBeAreUsageErrors) {
  expect_usage_error("bench", "--model m --percent 60 60 0 0 0 0", "60");
  expect_usage_error("bench", "--model m --percent -1 50 0 0 0 0", "-1");
  expect_usage_error("bench", "--model m --cpu-cache-compute --percent 0 50 0 50 0 50", "a cache on ssd");
  EXPECT_TRUE(parse("bench", "--model m --cpu-cache-compute --percent 0 50 0 100 0 50").policy.placement);
  expect_usage_error("bench", "--model m --save-compressed x", "--compress-weight is missing");
  expect_usage_error("bench", "--model m --save-compressed x --compress-weight --dummy", "exclude each other");
  expect_usage_error("score", "--model m --text t --window 20 --stride 20", "--stride 20 leaves tokens out");
}

TEST(Options, HelpPrintsAndEndsThere) {
  for (const char* command : {"generate", "score", "bench"}) {
    ::testing::internal::CaptureStdout();
    EXPECT_FALSE(parse_options(command, {"--help"}).has_value());
    const std::string text = ::testing::internal::GetCapturedStdout();
    ::testing::internal::CaptureStdout();
    EXPECT_FALSE(parse_options(command, {"-h"}).has_value());
    EXPECT_EQ(::testing::internal::GetCapturedStdout(), text);
    for (const char* flag : {"--percent", "--gpu-batch-size", "--offload-dir", "--config"})
      EXPECT_NE(text.find(flag), std::string::npos) << command << " " << flag;
    EXPECT_EQ(text.find("--prompt-len") != std::string::npos, std::string(command) == "bench");
  }
}

TEST(Options, PoliciesOfTheConfigFolderCanBeUsed) {
  const std::filesystem::path folder = std::filesystem::path(FLEXGEN_SOURCE_DIR) / "configs/policies";
  std::size_t num_files = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    const Options o = parse("bench", "--model m --config " + file.path().string() + " --gpu-batch-size 7");
    EXPECT_TRUE(o.policy.placement.has_value() && o.policy.num_gpu_batches.has_value()) << file.path();
    EXPECT_EQ(o.policy.gpu_batch_size, 7) << "the command line wins";
    ++num_files;
  }
  EXPECT_GE(num_files, 5U);
}

TEST(Options, AnUnknownOptionInAConfigFileIsAUsageError) {
  const test::ScratchPlace place;
  std::ofstream(place / "c.json") << R"({"model": "m", "gen-length": 5})";
  expect_usage_error("bench", "--config " + (place / "c.json").string(), "gen-length");
}

TEST(Options, PromptsAreCutByGenerateAlone) {
  const std::string files = "--model m --input a --output b";
  EXPECT_EQ(parse("generate", files).generate.truncate_prompt, PromptCut::none);
  EXPECT_EQ(parse("generate", files + " --truncate-prompt error").generate.truncate_prompt, PromptCut::none);
  EXPECT_EQ(parse("generate", files + " --truncate-prompt left").generate.truncate_prompt, PromptCut::left);
  EXPECT_EQ(parse("generate", files + " --truncate-prompt=right").generate.truncate_prompt, PromptCut::right);
  expect_usage_error("generate", files + " --truncate-prompt middle", "--truncate-prompt middle");
  expect_usage_error("score", files + " --truncate-prompt left", "truncate-prompt");
}

TEST(Options, HowLongARankMayNotAnswer) {
  using std::chrono::seconds;
  EXPECT_EQ(parse("bench", "--model m").machine.rank_timeout, seconds(60));
  EXPECT_EQ(parse("bench", "--model m --rank-timeout 5").machine.rank_timeout, seconds(5));
  EXPECT_EQ(parse("profile", "--rank-timeout 0").machine.rank_timeout, seconds(0));
  for (const char* wrong : {"-1", "1.5", "x"})
    expect_usage_error("bench", std::string("--model m --rank-timeout ") + wrong, "rank-timeout");
}

}  // namespace
}  // namespace flexgen::test
