#include "ops/sampling.hpp"

#include <limits>

#include "ops/dispatch.hpp"
#include "ops/host/host_ops.hpp"
#ifdef FLEXGEN_HAS_CUDA
#include "ops/cuda/cuda_kernels.hpp"
#endif

namespace flexgen {

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

}  // namespace flexgen
