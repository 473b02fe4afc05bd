#include "ops/sampling.hpp"

#include <limits>

#include "ops/dispatch.hpp"
#include "ops/host_ops.hpp"
#ifdef FLEXGEN_HAS_CUDA
#include "ops/cuda_kernels.hpp"
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

}  // namespace flexgen
