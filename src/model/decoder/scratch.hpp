// Scratch of a call's parts: matrices in the context's workspace, and what they take of it.
#pragma once

#include <cstdint>

#include "base/bytes.hpp"
#include "ops/context.hpp"
#include "ops/matrix_view.hpp"

namespace flexgen {

/// [rows, cols], until the enclosing Workspace::Scope ends.
inline MatrixView take_scratch(const OpContext& context, std::int64_t rows, std::int64_t cols, DType dtype,
                               const char* purpose) {
  const std::uint64_t bytes = static_cast<std::uint64_t>(rows * cols) * element_bytes(dtype);
  return contiguous_view(context.workspace->take(bytes, purpose), rows, cols, dtype);
}

inline std::uint64_t scratch_bytes(std::int64_t rows, std::int64_t cols, DType dtype) {
  return align_up(static_cast<std::uint64_t>(rows * cols) * element_bytes(dtype), 256);
}

}  // namespace flexgen
