// out = activation(x * weight^T + bias) [+ residual]: the one matrix product of the engine.
#pragma once

#include <optional>

#include "ops/context.hpp"
#include "ops/matrix_view.hpp"

namespace flexgen {

enum class Activation : std::uint8_t { none, relu, gelu };  // gelu: the exact (erf) form

struct LinearArgs {
  MatrixView x;                    // [tokens, in]
  MatrixView weight;               // [out, in], as Hugging Face stores it; may be compressed
  std::optional<MatrixView> bias;  // [1, out]
  Activation activation = Activation::none;
  std::optional<MatrixView> residual;  // [tokens, out], added after the activation; may be `out` itself
  MatrixView out;                      // [tokens, out]; x's dtype, or float32 for logits; not overlapping x
};

/// Accumulates in float32 whatever the dtype (float64 in the reference). All of one dtype, except a float32 `out`.
void linear(const OpContext& context, const LinearArgs& args);

/// Scratch that `linear` makes use of on this device, taken from what is free of the context's workspace. It works
/// with less, or none (but see LinearArgs::residual), at some cost in speed.
std::uint64_t linear_workspace_bytes(const Device& device);
/// The same of any GPU.
inline constexpr std::uint64_t blas_workspace_bytes = 32ULL << 20;

/// What compressed weights need besides, in a call of many tokens: room for a piece of the dequantized matrix.
std::uint64_t linear_compressed_workspace_bytes(const Device& device);

/// The oracle: three loops on host memory.
void linear_reference(const LinearArgs& args);

}  // namespace flexgen
