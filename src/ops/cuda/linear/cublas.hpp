// linear on a GPU: cuBLASLt, plus one kernel for what its epilogues cannot do. Builds with CUDA only.
#pragma once

#include "ops/context.hpp"
#include "ops/linear.hpp"

namespace flexgen {

/// Enqueues on context.stream; allocates no device memory (it uses what is free of context.workspace, if any).
/// Throws SystemError when cuBLASLt refuses.
void linear_cublas(const OpContext& context, const LinearArgs& args);

/// out = activation(product + bias) + residual, elementwise; absent views are left out. Sums in float32. `out` may be
/// any of them.
void finish_linear_cuda(const OpContext& context, const MatrixView& product, const std::optional<MatrixView>& bias,
                        Activation activation, const std::optional<MatrixView>& residual, const MatrixView& out);

}  // namespace flexgen
