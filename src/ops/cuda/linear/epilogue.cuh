// What follows a matrix product, elementwise: activation(sum + bias) + residual, rounded once.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "ops/linear.hpp"
#include "ops/matrix_view.hpp"

namespace flexgen {

__device__ inline float value_at(const void* data, DType dtype, std::int64_t index) {
  if (dtype == DType::float32) return static_cast<const float*>(data)[index];
  if (dtype == DType::float16) return __half2float(static_cast<const __half*>(data)[index]);
  return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[index]);
}

__device__ inline void put(void* data, DType dtype, std::int64_t index, float value) {
  if (dtype == DType::float32) static_cast<float*>(data)[index] = value;
  else if (dtype == DType::float16) static_cast<__half*>(data)[index] = __float2half_rn(value);
  else static_cast<__nv_bfloat16*>(data)[index] = __float2bfloat16_rn(value);
}

/// Bias [1, out] and residual [tokens, out] may have null data.
struct Epilogue {
  MatrixView bias;
  Activation activation;
  MatrixView residual;
  MatrixView out;  // [tokens, out]

  __device__ void finish(std::int64_t row, std::int64_t col, float value) const {
    if (bias.data != nullptr) value += value_at(bias.data, bias.dtype, col);
    if (activation == Activation::relu) value = value < 0.0F ? 0.0F : value;
    if (activation == Activation::gelu) value = 0.5F * value * (1.0F + erff(value * 0.70710678F));
    if (residual.data != nullptr) value += value_at(residual.data, residual.dtype, row * residual.row_stride + col);
    put(out.data, out.dtype, row * out.row_stride + col, value);
  }
};

inline Epilogue epilogue_of(const LinearArgs& args) {
  return {args.bias.value_or(MatrixView{}), args.activation, args.residual.value_or(MatrixView{}), args.out};
}

}  // namespace flexgen
