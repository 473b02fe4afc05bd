// Rows of an input file, and the reader that streams them.
//
// Two row forms stand side by side in one JSONL file: the OpenAI Batch row {"custom_id","method","url","body"} and
// the plain row {"custom_id"?,"prompt",...}, whose fields are those of a batch row's body. A bad row becomes a
// RowError and costs that row alone; one that is no JSON keeps its id and form as far as they can be told.
//
// `temperature` absent means 0, greedy (OpenAI's own default is 1); `seed` absent is made of the row's id, so that a
// job done twice gives the same file. A field that cannot be honoured is an error of the row, never ignored.
//
// Ownership: everything is a value; the reader owns its file. Thread-safety: a reader belongs to one thread.
// Source: OpenAI Batch API input format, /v1/completions request body.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/bytes.hpp"
#include "job/file_descriptor.hpp"
#include "spec/sampling.hpp"

namespace flexgen {

/// What a row leaves open.
struct RequestDefaults {
  int max_tokens = 32;
  bool is_scored = false;  // texts to be scored: "text" is another name of "prompt", and max_tokens may be 0
};

/// Which row a request, an error or a result belongs to.
struct RowIdentity {
  std::size_t line_number = 0;  // 1-based line of the input file; blank lines count
  std::string custom_id;        // "line-17" when the row names none
  bool batch_format = false;    // an OpenAI Batch row; otherwise a plain row. The result has the same form
  bool names_itself = false;    // custom_id stands in the row; otherwise it was made up
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

/// One row that cannot run. Codes: invalid_json, line_too_long, missing_field, invalid_field, unknown_field,
/// unsupported_value, unsupported_field, unsupported_url, duplicate_custom_id; once the model is known invalid_prompt,
/// invalid_field and not_a_number.
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

/// Streams the rows of a JSONL file. Blank lines are skipped; CRLF, a UTF-8 byte-order mark and a last line without
/// newline are fine. A custom_id that was already used makes the later row an error whose own id is "line-17", so
/// that it cannot be taken for the result of the first.
class RequestReader {
 public:
  static constexpr std::size_t default_max_line_bytes = 64 * MiB;

  /// Reads the beginning, and waits for it. Throws UserError (file) when the file cannot be opened, or is of a kind
  /// that holds no rows (packed, UTF-16, one JSON array, a table, ...).
  /// @param path  a file, or "-" for standard input
  RequestReader(std::string path, RequestDefaults defaults, std::size_t max_line_bytes = default_max_line_bytes);

  /// The next row; nothing at the end of the file. Throws UserError (file) when reading fails.
  std::optional<ParsedRow> next();

  /// Says which fields of the rows so far were not read (Request::unread_fields), the first eight of them; empty
  /// where all were.
  std::string describe_unread_fields() const;

 private:
  struct UnreadField {
    std::string name;
    std::size_t first_line = 0;
    std::size_t num_rows = 0;
  };

  enum class LineStatus { line, too_long, end };

  LineStatus read_line();
  RowError too_long_row() const;
  void refuse_wrong_kind();
  bool refill();
  bool read_more();
  void settle_custom_id(ParsedRow& row);
  void count_unread_fields(const Request& request);
  std::string unused_line_id(std::size_t line_number) const;

  std::string path_;
  std::string display_name_;  // quoted path or "standard input"
  RequestDefaults defaults_;
  std::size_t max_line_bytes_;
  FileDescriptor file_;
  std::vector<char> buffer_;
  std::size_t buffer_begin_ = 0;  // [begin, end) of buffer_ is unread
  std::size_t buffer_end_ = 0;
  bool is_at_end_ = false;  // of the file: asking a terminal again would wait again
  std::string line_;
  std::size_t line_number_ = 0;
  std::unordered_map<std::string, std::size_t> first_line_of_id_;
  std::vector<UnreadField> unread_fields_;
};

}  // namespace flexgen
