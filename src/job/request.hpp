// Rows of a job: what they ask for, and how one is read from a line of JSON. job/request_reader.hpp streams those of a
// job's inputs.
//
// Two row forms stand side by side in one JSONL file: the OpenAI Batch row {"custom_id","method","url","body"} and
// the plain row {"custom_id"?,"prompt",...}, whose fields are those of a batch row's body. A bad row becomes a
// RowError and costs that row alone; one that is no JSON keeps its id and form as far as they can be told.
//
// `temperature` absent means 0, greedy (OpenAI's own default is 1); `seed` absent is made of the row's id, so that a
// job done twice gives the same file. A field that cannot be honoured is an error of the row, never ignored.
//
// Ownership: everything is a value. Thread-safety: pure functions.
// Source: OpenAI Batch API input format, /v1/completions request body.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "spec/sampling.hpp"

namespace flexgen {

class KeptFields;
class PromptTemplate;

/// What a row leaves open, and what is made of it whatever it says.
struct RequestDefaults {
  int max_tokens = 32;
  bool is_scored = false;  // texts to be scored: "text" is another name of "prompt", and max_tokens may be 0
  std::shared_ptr<const PromptTemplate> prompt_template =
      {};                                              // makes the prompt of other fields; null: it is the row's
  std::shared_ptr<const KeptFields> kept_fields = {};  // come back in the result; null: none
};

/// Which row a request, an error or a result belongs to.
struct RowIdentity {
  std::size_t line_number = 0;   // 1-based line of its input on which it begins; blank lines count
  std::string custom_id;         // "line-17" when the row names none
  bool batch_format = false;     // an OpenAI Batch row; otherwise a plain row. The result has the same form
  bool names_itself = false;     // custom_id stands in the row; otherwise it was made up
  std::uint64_t ordinal = 0;     // rows before it, over all inputs of the job; blank lines are none
  std::string kept_fields = {};  // of its own, for its result: the text of a JSON object; empty: none
};

/// Text (UTF-8, may hold NUL) that the tokenizer encodes, or token ids that are used as they are (never empty, none
/// negative; the vocabulary is not known here).
using Prompt = std::variant<std::string, std::vector<std::int32_t>>;

/// One row that can run. Each prompt is a sequence of its own and becomes the choice of the same index.
struct Request : RowIdentity {
  std::vector<Prompt> prompts;    // >= 1
  bool prompt_is_list = false;    // the row gave a list of prompts, possibly of one
  int max_tokens = 0;             // >= 0; 0 generates nothing. Of a row that is scored without effect
  bool names_max_tokens = false;  // it stands in the row; otherwise it is the default, a wish
  std::vector<std::string> stop;  // <= 16, none empty
  std::string model;              // as the row names it; empty when it does not
  /// Names in a plain row that mean nothing here: the user's own, or slips ("id", "stopp").
  std::vector<std::string> unread_fields;

  SamplingOptions sampling;
  int n = 1;                                 // answers to each prompt, 1 .. 128
  int best_of = 1;                           // sequences of which they are the likeliest, n .. 20; n at temperature 0
  bool echo = false;                         // the prompt stands in front of the answer
  std::int32_t prompt_logprobs = -1;         // as SamplingOptions::num_logprobs, of the prompt's tokens
  bool ignore_eos = false;                   // the model's own end ids end nothing
  std::vector<std::int32_t> stop_token_ids;  // end the sequence as those do
  /// Where any, the answer is the likeliest of them behind the prompt. Distinct, none empty. max_tokens and `sampling`
  /// are without effect then, but for num_logprobs.
  std::vector<std::string> choices;
};

/// One row that cannot run. Codes: invalid_json, invalid_table_row, unreadable_row, line_too_long, missing_field,
/// invalid_field, unknown_field, unsupported_value, unsupported_field, unsupported_url, duplicate_custom_id; once the
/// model is known invalid_prompt, invalid_field and not_a_number.
struct RowError : RowIdentity {
  std::string code;
  std::string message;  // what, why, what to do
};

using ParsedRow = std::variant<Request, RowError>;

inline const RowIdentity& identity_of(const ParsedRow& row) {
  return std::visit([](const auto& one) -> const RowIdentity& { return one; }, row);
}

/// Parses one line (without its newline). Never throws for what stands in the line.
ParsedRow parse_request(std::string_view line, std::size_t line_number, const RequestDefaults& defaults);
/// @param row  who it is where the line does not say
ParsedRow parse_request(std::string_view line, RowIdentity row, const RequestDefaults& defaults);

}  // namespace flexgen
