// From logits to tokens.
#pragma once

#include <cstdint>

#include "ops/context.hpp"
#include "ops/matrix_view.hpp"

namespace flexgen {

/// token[r] = index of the largest logit of row r, the lowest index among equals. logits: [rows, vocab] float32;
/// token: [rows], computing device's memory. Rows that hold a NaN or plus infinity give -1.
void argmax_rows(const OpContext& context, const MatrixView& logits, std::int32_t* token);
void argmax_rows_reference(const MatrixView& logits, std::int32_t* token);

/// score[r] = log of the softmax of row r at target[r], natural logarithm; 0 where target[r] is -1. logits: [rows,
/// vocab] float32; target, score: [rows], computing device's memory. Sums in float32 about the row's largest logit.
void log_probabilities(const OpContext& context, const MatrixView& logits, const std::int32_t* target, float* score);
void log_probabilities_reference(const MatrixView& logits, const std::int32_t* target, float* score);

}  // namespace flexgen
