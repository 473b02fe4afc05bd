#include "ops/sampling.hpp"

#include <limits>

#include "ops/dispatch.hpp"
#include "ops/host/host_ops.hpp"
#include "ops/sampling_draw.hpp"
#ifdef FLEXGEN_HAS_CUDA
#include "ops/cuda/cuda_kernels.hpp"
#endif

namespace flexgen {
namespace {

void check_rows(const SampleRowsArgs& args) {
  for (const SampleRow* row = args.host_row; row != args.host_row + args.logits.rows; ++row) {
    FLEXGEN_CHECK(row->num_top >= 0 && row->num_top <= args.max_top, "sample_rows: more alternatives than have room");
    FLEXGEN_CHECK(row->temperature >= 0.0F && row->top_p > 0.0F && row->min_p >= 0.0F && row->min_p <= 1.0F &&
                      row->repetition_penalty > 0.0F,
                  "sample_rows: a row's parameters are out of range");
    FLEXGEN_CHECK(row->given_token < args.logits.cols, "sample_rows: no such token");
    FLEXGEN_CHECK(row->num_adjustments == 0 || args.adjustment != nullptr, "sample_rows: no adjustments");
  }
}

}  // namespace

void argmax_rows(const OpContext& context, const MatrixView& logits, std::int32_t* token) {
  check_view(logits, logits.rows, logits.cols, DType::float32, "argmax_rows: logits");
  if (logits.rows == 0) return;
  FLEXGEN_CHECK(token != nullptr, "argmax_rows: nowhere to write to");
  FLEXGEN_CHECK(logits.cols > 0 && logits.cols <= std::numeric_limits<std::int32_t>::max(),
                "argmax_rows: no such vocabulary");
  switch (choose_implementation(context, "argmax_rows")) {
    case Implementation::reference: argmax_rows_reference(logits, token); return;
    case Implementation::host: argmax_rows_host(logits, token); return;
    case Implementation::cuda:
#ifdef FLEXGEN_HAS_CUDA
      argmax_rows_cuda(context, logits, token);
#endif
      return;
  }
}

void log_probabilities(const OpContext& context, const MatrixView& logits, const std::int32_t* target, float* score) {
  check_view(logits, logits.rows, logits.cols, DType::float32, "log_probabilities: logits");
  if (logits.rows == 0) return;
  FLEXGEN_CHECK(target != nullptr && score != nullptr, "log_probabilities: nothing to read from or write to");
  switch (choose_implementation(context, "log_probabilities")) {
    case Implementation::reference: log_probabilities_reference(logits, target, score); return;
    case Implementation::host: log_probabilities_host(logits, target, score); return;
    case Implementation::cuda:
#ifdef FLEXGEN_HAS_CUDA
      log_probabilities_cuda(context, logits, target, score);
#endif
      return;
  }
}

void sample_rows(const OpContext& context, const SampleRowsArgs& args) {
  check_view(args.logits, args.logits.rows, args.logits.cols, DType::float32, "sample_rows: logits");
  if (args.logits.rows == 0) return;
  FLEXGEN_CHECK(args.logits.cols > 0 && args.logits.cols <= kMostSampledTokens, "sample_rows: no such vocabulary");
  FLEXGEN_CHECK(args.row != nullptr && args.host_row != nullptr && args.token != nullptr,
                "sample_rows: nothing to read from or write to");
  FLEXGEN_CHECK(args.max_top == 0 || (args.log_probability != nullptr && args.top_token != nullptr &&
                                      args.top_log_probability != nullptr),
                "sample_rows: no room for alternatives");
  check_rows(args);
  switch (choose_implementation(context, "sample_rows")) {
    case Implementation::reference: sample_rows_reference(args); return;
    case Implementation::host: sample_rows_host(args); return;
    case Implementation::cuda:
#ifdef FLEXGEN_HAS_CUDA
      sample_rows_cuda(context, args);
#endif
      return;
  }
}

}  // namespace flexgen
