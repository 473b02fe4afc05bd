// out [tokens, features] = activation(product + bias) + residual: what cuBLASLt cannot fuse (exact GELU, a
// half-precision bias under float32 logits, a residual after an activation).
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

#include "device/cuda_check.hpp"
#include "ops/linear_cublas.hpp"

namespace flexgen {
namespace {

__device__ float value_at(const void* data, DType dtype, std::int64_t index) {
  if (dtype == DType::float32) return static_cast<const float*>(data)[index];
  if (dtype == DType::float16) return __half2float(static_cast<const __half*>(data)[index]);
  return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[index]);
}

__device__ void put(void* data, DType dtype, std::int64_t index, float value) {
  if (dtype == DType::float32) static_cast<float*>(data)[index] = value;
  else if (dtype == DType::float16) static_cast<__half*>(data)[index] = __float2half_rn(value);
  else static_cast<__nv_bfloat16*>(data)[index] = __float2bfloat16_rn(value);
}

// One thread per element, grid-stride; bias and residual data may be null.
__global__ void finish_kernel(MatrixView product, MatrixView bias, Activation activation, MatrixView residual,
                              MatrixView out) {
  const std::int64_t count = out.rows * out.cols;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    const std::int64_t row = i / out.cols;
    const std::int64_t col = i - row * out.cols;
    float value = value_at(product.data, product.dtype, row * product.row_stride + col);
    if (bias.data != nullptr) value += value_at(bias.data, bias.dtype, col);
    if (activation == Activation::relu) value = value < 0.0F ? 0.0F : value;
    if (activation == Activation::gelu) value = 0.5F * value * (1.0F + erff(value * 0.70710678F));
    if (residual.data != nullptr) value += value_at(residual.data, residual.dtype, row * residual.row_stride + col);
    put(out.data, out.dtype, row * out.row_stride + col, value);
  }
}

}  // namespace

void finish_linear_cuda(const OpContext& context, const MatrixView& product, const std::optional<MatrixView>& bias,
                        Activation activation, const std::optional<MatrixView>& residual, const MatrixView& out) {
  constexpr std::int64_t kThreads = 256;
  const std::int64_t blocks = std::clamp<std::int64_t>((out.rows * out.cols + kThreads - 1) / kThreads, 1, 65535);
  finish_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, static_cast<cudaStream_t>(context.stream)>>>(
      product, bias.value_or(MatrixView{}), activation, residual.value_or(MatrixView{}), out);
  check_cuda(cudaGetLastError(), "the kernel that finishes a matrix product");
}

}  // namespace flexgen
