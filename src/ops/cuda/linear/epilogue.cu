// out [tokens, features] = activation(product + bias) + residual: what cuBLASLt cannot fuse (exact GELU, a
// half-precision bias under float32 logits, a residual after an activation).
#include <algorithm>

#include "ops/cuda/cuda_launch.cuh"
#include "ops/cuda/linear/cublas.hpp"
#include "ops/cuda/linear/epilogue.cuh"

namespace flexgen {
namespace {

// One thread per element, grid-stride.
__global__ void finish_kernel(MatrixView product, Epilogue epilogue) {
  const std::int64_t cols = epilogue.out.cols;
  const std::int64_t count = epilogue.out.rows * cols;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    const std::int64_t row = i / cols;
    const std::int64_t col = i - row * cols;
    epilogue.finish(row, col, value_at(product.data, product.dtype, row * product.row_stride + col));
  }
}

}  // namespace

void finish_linear_cuda(const OpContext& context, const MatrixView& product, const std::optional<MatrixView>& bias,
                        Activation activation, const std::optional<MatrixView>& residual, const MatrixView& out) {
  constexpr std::int64_t kThreads = 256;
  const std::int64_t blocks = std::clamp<std::int64_t>((out.rows * out.cols + kThreads - 1) / kThreads, 1, 65535);
  const Epilogue epilogue{bias.value_or(MatrixView{}), activation, residual.value_or(MatrixView{}), out};
  finish_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream_of(context)>>>(product, epilogue);
  check_launch("the kernel that finishes a matrix product");
}

}  // namespace flexgen
