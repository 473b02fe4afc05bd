#include "ops/dispatch.hpp"

#include <fmt/core.h>

namespace flexgen {

Implementation choose_implementation(const OpContext& context, std::string_view op) {
  if (!context.device.is_cuda()) {
    return context.backend == Backend::reference ? Implementation::reference : Implementation::host;
  }
  FLEXGEN_CHECK(context.backend != Backend::reference,
                fmt::format("{}: the reference implementation works on host memory, not on a GPU's", op));
#ifndef FLEXGEN_HAS_CUDA
  fail_without_cuda(op);
#else
  return Implementation::cuda;
#endif
}

void check_view(const MatrixView& view, std::int64_t rows, std::int64_t cols, DType dtype, std::string_view name) {
  FLEXGEN_CHECK(!view.is_compressed(), fmt::format("{} is compressed where a plain matrix is due", name));
  check_stored_view(view, rows, cols, dtype, name);
}

void check_stored_view(const MatrixView& view, std::int64_t rows, std::int64_t cols, DType dtype,
                       std::string_view name) {
  FLEXGEN_CHECK(view.rows == rows && view.cols == cols,
                fmt::format("{} is [{}, {}] where [{}, {}] is due", name, view.rows, view.cols, rows, cols));
  FLEXGEN_CHECK(view.dtype == dtype,
                fmt::format("{} is {} where {} is due", name, dtype_name(view.dtype), dtype_name(dtype)));
  const std::int64_t row = view.is_compressed() ? view.quant.row_bytes(view.cols) : view.cols;
  FLEXGEN_CHECK(view.rows <= 1 || view.row_stride >= row,
                fmt::format("{}: rows of {} {} overlap at stride {}", name, row,
                            view.is_compressed() ? "bytes" : "elements", view.row_stride));
  FLEXGEN_CHECK(view.data != nullptr || view.rows * view.cols == 0, fmt::format("{} has no memory", name));
}

void fail_without_cuda(std::string_view op) {
  throw InternalError(fmt::format("{}: this build has no CUDA kernels", op));
}

}  // namespace flexgen
