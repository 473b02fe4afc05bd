// A row of a generate job on its way: the sequences that run for it, what came of them, and the result they make.
//
// A row has best_of sequences for each prompt, of which its n answers are the likeliest by mean log-probability of
// their tokens; a row with `choices` has one for each of them, of which the answer is the likeliest by the sum over its
// tokens. Numbers are values of the model's own distribution, before anything of sampling.
//
// Owned by the row book, shared by its sequences. Single-threaded.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "batch/row.hpp"
#include "job/request.hpp"
#include "job/result.hpp"
#include "run/rows/prompt_fit.hpp"
#include "run/rows/token_record.hpp"
#include "spec/model_spec.hpp"
#include "text/tokenizer.hpp"

namespace flexgen {

struct OpenRow {
  struct FittedPrompt {
    std::vector<std::int32_t> ids;
    std::int64_t num_begin_tokens = 0;  // of these, put first by the tokenizer
    std::string text;                   // what `echo` gives back; empty where that is not asked for
  };
  struct Sequence {
    std::size_t prompt = 0;
    std::vector<std::int32_t> choice;  // ids of one of the row's `choices`, scored behind the prompt
    std::int32_t max_new_tokens = 0;
    // What came of it:
    std::vector<std::int32_t> token_ids;
    std::string text;
    const char* finish_reason = "";
    std::int32_t num_attempts = 1;         // where answers are to match a pattern
    bool has_matched = true;               // the last of them
    std::uint64_t num_dropped_tokens = 0;  // of those before it
    TokenRecord prompt_scores;             // of prompt and choice, but for the first token
    TokenRecord token_scores;              // of token_ids
  };

  Request request;  // its prompts are let go
  std::vector<FittedPrompt> prompts;
  std::vector<Sequence> sequences;          // prompt by prompt
  std::shared_ptr<const TokenRules> rules;  // null: likeliest tokens, and none but prompts are scored
  bool scores_prompts = false;
  bool is_cut = false;      // a prompt was too long
  bool is_matched = false;  // its answers are to match a pattern
  bool is_counted = false;  // among the rows of the job
  std::size_t num_open = 0;
  bool has_failed = false;  // its error is written: the other sequences come to nothing

  std::size_t sequences_per_prompt() const { return sequences.size() / prompts.size(); }
  /// Of its prompt and its choice together, as they are run.
  std::int64_t num_prompt_tokens(const Sequence& sequence) const {
    return std::ssize(prompts[sequence.prompt].ids) + std::ssize(sequence.choice);
  }
  /// What it takes in memory, roughly, before it runs.
  std::size_t num_bytes() const;
  /// What comes of a sequence is forgotten, so that it can run again, with another seed.
  void begin_again(Sequence& sequence);
  /// What is to run for a sequence, but for its id.
  RowRequest to_run(std::size_t sequence) const;
};

/// What opening rows needs to know.
struct RowRules {
  const Tokenizer& tokenizer;
  const ModelSpec& model;
  PromptCut cut = PromptCut::none;
  bool wants_match = false;  // answers are to match a pattern, or come again
};

/// The row's sequences are yet to run; or why it cannot.
std::variant<std::unique_ptr<OpenRow>, RowError> open_row(Request request, const RowRules& rules);

/// Of a row whose sequences are all finished.
Result result_of(const OpenRow& row, const Tokenizer& tokenizer);

}  // namespace flexgen
