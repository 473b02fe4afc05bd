// A row as it waits to be run, and what is told of it while it runs. Plain data.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/ids.hpp"
#include "spec/sampling.hpp"

namespace flexgen {

/// How a row's tokens are chosen where they are not simply the likeliest, and what is told beside them.
struct TokenRules {
  SamplingOptions sampling = {};
  std::int32_t num_prompt_top = 0;            // alternatives to each token of a prompt that is scored
  std::vector<std::int32_t> end_tokens = {};  // all that would end it: none is chosen before sampling.min_tokens
};

struct RowRequest {
  RowId id;
  std::vector<std::int32_t> prompt;  // at least one token
  std::int32_t max_new_tokens = 1;   // at least one, or 0 where the prompt is scored
  bool stop_at_eos = true;
  bool score_prompt = false;                     // on_scores is told how likely the prompt was
  std::vector<std::int32_t> stop_tokens = {};    // end it, as the model's own end does
  std::shared_ptr<const TokenRules> rules = {};  // of all sequences of an input row; null: none
  std::uint32_t answer = 0;                      // of these the number: each draws for itself
};

/// Of tokens that follow each other in a row.
struct TokenScores {
  std::span<const float> scores;  // [tokens] log-probabilities
  std::int32_t max_top = 0;       // alternatives to a token, at most
  std::span<const std::int32_t>
      top_tokens;                     // [tokens, max_top] the likeliest in its place, in their order; -1: no more
  std::span<const float> top_scores;  // their log-probabilities
};

/// not_a_number: the model gave a logit or a score that is none, or no finite one; nothing of the row is of use.
enum class FinishReason : std::uint8_t { stop, length, not_a_number };

/// Calls from the driver to whoever runs the job, on the driver's thread. on_finished comes once and last for each row.
struct RowCallbacks {
  /// A row's next token; true: the row is to stop here (a stop string). The end-of-sequence token is passed too.
  std::function<bool(RowId, std::int32_t token)> on_token;
  std::function<void(RowId, FinishReason)> on_finished;
  /// Of a row whose prompt is scored the prompt's tokens but for the first, as they are read, some at a time; of one
  /// whose rules ask for log-probabilities each new token, before on_token.
  std::function<void(RowId, const TokenScores&)> on_scores;
  /// Before every sweep, behind all that came of the one before it; may be empty. False: no further sweep begins, and
  /// rows are left unfinished.
  std::function<bool()> on_sweep;
};

}  // namespace flexgen
