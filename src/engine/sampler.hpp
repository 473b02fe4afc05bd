// What becomes of logits: a token for each output, and the scores of tokens that stand there already.
//
// Stateless; for the thread that computes. A model gives logits and nothing else: how tokens are chosen stands here.
#pragma once

#include <cstdint>

#include "ops/context.hpp"
#include "ops/matrix_view.hpp"

namespace flexgen {

/// All memory is of the computing device.
struct SampleArgs {
  MatrixView logits;               // [outputs, vocab] float32
  std::int32_t* tokens = nullptr;  // [outputs], out: the greedy choice; -1 where a row has a NaN or plus infinity
  const std::int32_t* targets = nullptr;  // [outputs] tokens to be scored, -1: none; null: no scores
  float* scores = nullptr;                // [outputs], out: log-probabilities of the targets, 0 where there is none
};

/// Enqueues on the context's stream. The lowest of equal tokens is chosen; a logit of minus infinity rules a token out.
void sample(const OpContext& context, const SampleArgs& args);

}  // namespace flexgen
