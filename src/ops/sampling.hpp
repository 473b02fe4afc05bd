// From logits to tokens.
//
// A model gives logits alone; these ops make tokens and log-probabilities of them. They are stateless: a token depends
// on its row's logits and parameters and on nothing else, so never on rows beside it.
#pragma once

#include <cstdint>

#include "ops/context.hpp"
#include "ops/matrix_view.hpp"
#include "spec/sampling.hpp"

namespace flexgen {

/// token[r] = index of the largest logit of row r, the lowest index among equals. logits: [rows, vocab] float32;
/// token: [rows], computing device's memory. Rows that hold a NaN or plus infinity give -1.
void argmax_rows(const OpContext& context, const MatrixView& logits, std::int32_t* token);
void argmax_rows_reference(const MatrixView& logits, std::int32_t* token);

/// score[r] = log of the softmax of row r at target[r], natural logarithm; 0 where target[r] is -1. logits: [rows,
/// vocab] float32; target, score: [rows], computing device's memory. Sums in float32 about the row's largest logit.
void log_probabilities(const OpContext& context, const MatrixView& logits, const std::int32_t* target, float* score);
void log_probabilities_reference(const MatrixView& logits, const std::int32_t* target, float* score);

/// All arrays are the computing device's memory, but for host_row.
struct SampleRowsArgs {
  MatrixView logits;                      // [rows, vocab] float32; changed meanwhile, in the end as they came
  const SampleRow* row = nullptr;         // [rows]
  const SampleRow* host_row = nullptr;    // the same on the host
  TokenAdjustment* adjustment = nullptr;  // of all rows
  std::int32_t max_top = 0;               // num_top of a row at most
  std::int32_t* token = nullptr;          // [rows], out
  float* log_probability = nullptr;       // [rows], out; or null where none is asked for; max_top is 0 then
  std::int32_t* top_token = nullptr;      // [rows, max_top], out
  float* top_log_probability = nullptr;   // [rows, max_top], out
};

/// Chooses a token for each row. In this order: penalties, biases and bans, temperature, then of the likeliest tokens
/// top_k, of these top_p, of these min_p, each of the distribution that is left; of equal logits the lower ids are the
/// likelier. At temperature 0, and where all tokens are banned, it is what argmax_rows chooses of the changed logits.
///
/// Log-probabilities (natural logarithms) are those of the model's own distribution, the softmax of the logits as they
/// came: before penalties, biases, bans and temperature. So are the row's num_top alternatives, the likeliest first, of
/// equal ones the lower id; what is behind them up to max_top is token -1, log-probability 0. A token has the same
/// number in both places, and in log_probabilities.
///
/// Rows that hold a NaN or plus infinity, as they came or after penalties and bias, give token -1 and log-probability
/// 0; of the first no alternatives either. vocab is at most 2^21.
///
/// Enqueues on the context's stream. Takes nothing of the workspace; on the host, sample_rows_scratch_bytes
/// (ops/host_scratch.hpp) of each thread.
void sample_rows(const OpContext& context, const SampleRowsArgs& args);
void sample_rows_reference(const SampleRowsArgs& args);

}  // namespace flexgen
