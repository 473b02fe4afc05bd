// Results of rows and their text form.
//
// One input row gives one output line, in the form of its input: an OpenAI Batch output row for a batch row, a flat
// object for a plain row. Lines depend on the row and its tokens alone (ids are derived from custom_id, the time is
// passed in), so that a job done twice gives the same file.
//
// Ownership: results are values. Thread-safety: formatting is pure. What writes them: job/output/result_writer.hpp.
// Source: OpenAI Batch API output format and /v1/completions response; token_ids and prompt_token_ids as vLLM names
// them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "job/request.hpp"

namespace flexgen {

/// A token that might have stood in a place, natural logarithm.
struct TokenLogprob {
  std::string bytes;  // the token's own, perhaps part of a character
  float log_probability = 0.0F;
};

/// A token that stands in a choice.
struct ChoiceToken {
  std::string bytes;
  std::optional<float> log_probability = {};  // given the tokens before it; none where there is none
  std::vector<TokenLogprob> top = {};         // the likeliest in its place, in their order; as many as the row asks for
};

/// How often an answer was asked for that was to match a pattern, and whether the last one did.
struct Attempts {
  int count = 1;
  bool last_matched = true;
};

/// What one prompt of a row became, or one of the answers to it.
struct Choice {
  int index = 0;                        // position in its row: prompt by prompt, answer by answer
  std::string text;                     // without stop string and special tokens; with `echo` behind the prompt's
  std::string finish_reason;            // "stop" (end-of-sequence or stop string) | "length"
  std::vector<std::int32_t> token_ids;  // every generated id, the end-of-sequence id included
  std::vector<std::int32_t> prompt_token_ids;  // as fed to the model
  /// Where the row asks for them, of every generated token, an end-of-sequence token and a stop string's included: with
  /// `echo` those of the prompt first, but for what the tokenizer has put in front of it.
  std::optional<std::vector<ChoiceToken>> logprobs = {};
  std::optional<std::vector<ChoiceToken>> prompt_logprobs = {};  // where the row asks for those of the prompt alone
  std::vector<double> choice_logprobs = {};  // of each of the row's `choices`, in their order: sums over its tokens
  std::optional<Attempts> attempts = {};     // where answers are to match a pattern
};

struct Usage {
  std::uint64_t prompt_tokens = 0;
  std::uint64_t completion_tokens = 0;

  std::uint64_t total_tokens() const { return prompt_tokens + completion_tokens; }
};

struct Result : RowIdentity {
  bool prompt_is_list = false;  // or answers are several: a plain row then has "choices", otherwise its fields are flat
  std::vector<Choice> choices;  // >= 1; one if !prompt_is_list
  Usage usage;
};

/// An empty result that belongs to `request`.
Result result_for(const Request& request);

/// One text of a row, scored.
struct ScoredText {
  std::vector<std::int32_t> token_ids;   // as fed to the model
  std::vector<float> log_probabilities;  // of tokens 1, 2, ... after those before; may end early (--max-tokens)
};

struct ScoreResult : RowIdentity {
  bool prompt_is_list = false;    // as in Result
  std::vector<ScoredText> texts;  // >= 1; one if !prompt_is_list
};

/// One JSON line: {"custom_id","token_logprobs":[null,...],"sum","count","perplexity"}, or {"custom_id","choices":
/// [{"index",...}]} for a list. token_logprobs are natural logarithms, rounded to 7 decimals; the first token has none
/// (null). perplexity is null where nothing was counted. `return_token_ids` adds "token_ids".
std::string format_scores(const ScoreResult& result, bool return_token_ids);

struct ResultFormat {
  bool return_token_ids = false;  // add token_ids and prompt_token_ids to each choice
  std::string model_name;         // batch rows' body.model
  std::int64_t created = 0;       // batch rows' body.created, seconds since 1970
  bool has_text = true;           // false: the model has no tokenizer, so that choices have no text
};

/// One JSON line without its newline. Batch row:
///   {"id","custom_id","response":{"status_code":200,"request_id","body":{"id","object":"text_completion","created",
///   "model","choices":[{"index","text","finish_reason","logprobs":null}],"usage"}},"error":null}
/// Plain row: {"custom_id","text","finish_reason","usage"}, or {"custom_id","choices":[...],"usage"} for a list of
/// prompts. Ill-formed UTF-8 in a text comes out as U+FFFD.
/// "logprobs" is null in a batch row, and not there in a plain row, where none are asked for; else {"tokens",
/// "token_logprobs","top_logprobs","text_offset"}, an entry for each token. A token whose bytes are no text is
/// "bytes:\\xe2\\x80"; numbers are rounded to 7 decimals, the first may be null; top_logprobs are objects, of the
/// likeliest tokens and the token itself; offsets count characters (code points) from the first entry on.
/// "prompt_logprobs" have the same form. A row with `choices` has "choice_logprobs", a list of numbers.
/// Where answers are to match a pattern, a choice has "attempts", and "matched": false where the last one did not.
/// Kept fields of the row stand behind all others, under their names in a plain row, as an object "fields" in a batch
/// row; so they do in scores and errors.
std::string format_result(const Result& result, const ResultFormat& format);

/// Batch row: {"id","custom_id","response":null,"error":{"code","message"}}; plain row: {"custom_id","error":{...}}.
std::string format_error(const RowError& error);

}  // namespace flexgen
