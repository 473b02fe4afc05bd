// What becomes of logits: a token for each output, and the scores of tokens that stand there already.
//
// Stateless; for the thread that computes. A model gives logits and nothing else: how tokens are chosen stands here.
#pragma once

#include <cstdint>

#include "engine/sweep_batches.hpp"
#include "ops/context.hpp"
#include "ops/matrix_view.hpp"

namespace flexgen {

/// Where a micro-batch's outputs go, one after another.
struct OutputArrays {
  std::int32_t* tokens = nullptr;      // [outputs]
  float* scores = nullptr;             // [outputs]; null where none are wanted
  std::int32_t* top_tokens = nullptr;  // [outputs, most alternatives of one]; null as scores
  float* top_scores = nullptr;         // the same
};

/// All memory is of the computing device, but for choices.host_how.
struct SampleArgs {
  MatrixView logits;                      // [outputs, vocab] float32; as they came in the end
  OutputArrays out;                       // tokens are -1 where a row of logits has a NaN or plus infinity
  const std::int32_t* targets = nullptr;  // [outputs] tokens to be scored, -1: none; null: none, or `choices` has them
  OutputChoices choices = {};
  bool has_scores = false;   // out.scores are wanted where there are choices
  std::int32_t max_top = 0;  // alternatives of an output
};

/// Enqueues on the context's stream. Without choices: the lowest of the likeliest tokens is chosen; a logit of minus
/// infinity rules a token out; scores are the log-probabilities of the targets, 0 where there is none.
void sample(const OpContext& context, const SampleArgs& args);

}  // namespace flexgen
