// The options of every command, parsed and checked. Plain data; a command reads those that it has.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "job/input/input_format.hpp"
#include "job/request.hpp"
#include "run/job_request.hpp"
#include "run/rows/error_limit.hpp"
#include "run/rows/prompt_fit.hpp"
#include "run/rows/retry_rule.hpp"
#include "run/rows/row_lengths.hpp"

namespace flexgen {

/// Rows in: what generate and score share. bench takes the lengths of an input.
struct RowOptions {
  InputFiles inputs;
  std::shared_ptr<const PromptTemplate> prompt_template;
  std::shared_ptr<const KeptFields> kept_fields;
  ErrorLimit errors;
  /// Of the options that are made into something here and that results depend on: their words, as they were given.
  std::map<std::string, std::string> as_given;
  bool return_token_ids = false;
  std::string quality_check;  // a text by which compression is judged

  /// What is made of a row, whatever it says.
  RequestDefaults defaults(std::int32_t max_tokens, bool is_scored = false) const {
    return {max_tokens, is_scored, prompt_template, kept_fields};
  }
};

struct GenerateOptions {
  std::int32_t gen_len = 32;  // of a row that does not say
  PromptCut truncate_prompt = PromptCut::none;
  RetryRule retry;
};

struct ScoreOptions {
  std::string text;  // a plain text instead of rows
  bool collapse_whitespace = false;
  std::int64_t max_tokens = 0;          // predictions of each text; 0: all
  std::int32_t window = 0, stride = 0;  // tokens; 0: the model's positions, window - 1
};

/// The shape of bench's job.
struct BenchOptions {
  LengthRange prompt_len{512, 512};
  std::int64_t shared_len = 0;  // tokens that all prompts begin with
  LengthRange gen_len{32, 32};
  std::int64_t num_rows = 0;  // 0: full blocks for every group, or all rows of the input
  std::int64_t seed = 20260101;
};

struct ProfileOptions {
  bool quick = false;  // fewer points, less data
};

struct PlanOptions {
  std::string profiles;  // of machines that are not here
  bool explain = false;  // the policy that is given, beside the plan
  std::string save;      // the file of its ranks' placements
  bool more = true;      // what more memory, GPUs and boxes would bring
};

struct VerifyOptions {
  std::int64_t num_rows = 16;
  std::optional<std::uint64_t> seed;              // of rows that are drawn; none: the first
  std::optional<double> max_perplexity_increase;  // percent
};

struct Options : JobRequest {
  std::string command;  // "generate", ...
  std::string config;   // the file from which options were read
  ModelChoice model;
  RowOptions rows;
  GenerateOptions generate;
  ScoreOptions score;
  BenchOptions bench;
  ProfileOptions profile;
  PlanOptions plan;
  VerifyOptions verify;
};

/// Parses a command's words (after its name). Empty when help was asked for and printed.
/// Throws UserError (usage): an unknown option, a bad value, or one that cannot be honoured.
std::optional<Options> parse_options(const std::string& command, std::vector<std::string> words);

}  // namespace flexgen
