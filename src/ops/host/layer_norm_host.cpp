#include "ops/host/host_kernels.hpp"
#include "ops/host/host_ops.hpp"
#include "ops/host/scratch.hpp"
#include "ops/host_scratch.hpp"
#include "ops/parallel_for.hpp"

namespace flexgen {
namespace {

/// Gamma and beta, widened once by the calling thread.
std::int64_t affine_floats(std::int64_t hidden) { return 2 * hidden; }
std::int64_t normed_row_floats(std::int64_t hidden) { return hidden; }

}  // namespace

void layer_norm_host(const LayerNormArgs& args) {
  const HostKernels& kernels = host_kernels();
  const std::int64_t hidden = args.x.cols;
  ScratchFrame scratch;
  float* affine = scratch.floats(affine_floats(hidden));
  const auto widened = [&](const std::optional<MatrixView>& view, float* to) -> const float* {
    if (!view) return nullptr;
    kernels.to_float(view->data, view->dtype, to, hidden);
    return to;
  };
  const float* gamma = widened(args.gamma, affine);
  const float* beta = widened(args.beta, affine + hidden);
  const std::int64_t rows_per_task = 1 + 16384 / hidden;
  parallel_ranges(args.x.rows, rows_per_task, [&](std::int64_t first, std::int64_t count) {
    ScratchFrame own;
    float* row = own.floats(normed_row_floats(hidden));
    for (std::int64_t t = first; t < first + count; ++t) {
      kernels.to_float(args.x.row(t), args.x.dtype, row, hidden);
      kernels.normalize(row, hidden, gamma, beta, args.epsilon, row);
      kernels.from_float(row, args.out.row(t), args.out.dtype, hidden);
    }
  });
}

std::uint64_t layer_norm_scratch_bytes(std::int64_t hidden) {
  return scratch_piece_bytes<float>(affine_floats(hidden)) + scratch_piece_bytes<float>(normed_row_floats(hidden));
}

}  // namespace flexgen
