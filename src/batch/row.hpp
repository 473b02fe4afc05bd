// A row as it waits to be run, and what is told of it while it runs. Plain data.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/ids.hpp"

namespace flexgen {

struct RowRequest {
  RowId id;
  std::vector<std::int32_t> prompt;  // at least one token
  std::int32_t max_new_tokens = 1;   // at least one, or 0 where the prompt is scored
  bool stop_at_eos = true;
  bool score_prompt = false;  // on_scores is told how likely the prompt was
};

/// not_a_number: the model gave a logit or a score that is none, or no finite one; nothing of the row is of use.
enum class FinishReason : std::uint8_t { stop, length, not_a_number };

/// Calls from the driver to whoever runs the job, on the driver's thread. on_finished comes once and last for each row.
struct RowCallbacks {
  /// A row's next token; true: the row is to stop here (a stop string). The end-of-sequence token is passed too.
  std::function<bool(RowId, std::int32_t token)> on_token;
  std::function<void(RowId, FinishReason)> on_finished;
  /// Of a row whose prompt is scored, before its first token: score[i] is the log-probability of prompt token i + 1
  /// after tokens 0 .. i, greedy[i] the token that was likeliest there; both have one entry less than the prompt.
  std::function<void(RowId, std::span<const float> scores, std::span<const std::int32_t> greedy)> on_scores;
};

}  // namespace flexgen
