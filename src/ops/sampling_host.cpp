#include "ops/host_kernels.hpp"
#include "ops/host_ops.hpp"
#include "ops/parallel_for.hpp"

namespace flexgen {

void argmax_rows_host(const MatrixView& logits, std::int32_t* token) {
  parallel_ranges(logits.rows, 1 + 65536 / logits.cols, [&](std::int64_t first, std::int64_t count) {
    for (std::int64_t r = first; r < first + count; ++r) {
      const float* row = reinterpret_cast<const float*>(logits.row(r));
      token[r] = static_cast<std::int32_t>(host_kernels().argmax(row, logits.cols));
    }
  });
}

}  // namespace flexgen
