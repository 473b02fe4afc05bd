#include <cmath>
#include <limits>
#include <vector>

#include "ops/host/host_kernels.hpp"
#include "ops/host/host_ops.hpp"
#include "ops/parallel_for.hpp"

namespace flexgen {

void argmax_rows_host(const MatrixView& logits, std::int32_t* token) {
  parallel_ranges(logits.rows, 1 + 65536 / logits.cols, [&](std::int64_t first, std::int64_t count) {
    for (std::int64_t r = first; r < first + count; ++r) {
      const float* row = reinterpret_cast<const float*>(logits.row(r));
      const std::int64_t best = host_kernels().argmax(row, logits.cols);
      const bool is_number = best >= 0 && row[best] != std::numeric_limits<float>::infinity();
      token[r] = is_number ? static_cast<std::int32_t>(best) : -1;
    }
  });
}

void log_probabilities_host(const MatrixView& logits, const std::int32_t* target, float* score) {
  parallel_ranges(logits.rows, 1 + 4096 / logits.cols, [&](std::int64_t first, std::int64_t count) {
    std::vector<float> copy;
    for (std::int64_t r = first; r < first + count; ++r) {
      score[r] = 0.0F;
      if (target[r] < 0) continue;
      const float* row = reinterpret_cast<const float*>(logits.row(r));
      copy.assign(row, row + logits.cols);
      copy.resize(static_cast<std::size_t>((logits.cols + 15) / 16 * 16));
      SoftmaxState state = kNothingSeen;
      host_kernels().softmax_step(copy.data(), logits.cols, 1.0F, &state);
      score[r] = row[target[r]] - state.largest - std::log(state.weight);
    }
  });
}

}  // namespace flexgen
