#include "ops/quantize.hpp"

#include <fmt/core.h>

#include "ops/dispatch.hpp"
#include "ops/element_access.hpp"
#include "ops/quantize_group.hpp"
#include "ops/quantize_rows.hpp"
#ifdef FLEXGEN_HAS_CUDA
#include "ops/cuda/cuda_kernels.hpp"
#endif

namespace flexgen {

void check_format(const QuantFormat& format) {
  FLEXGEN_CHECK(format.has_known_bits(),
                fmt::format("compressed values have {} bits where 4 or 8 are possible", format.bits));
  FLEXGEN_CHECK(format.group >= 8 && format.group <= max_group && format.group % 8 == 0,
                fmt::format("groups of {} where a multiple of 8 up to {} is due", format.group, max_group));
}

void check_quantize(const MatrixView& plain, const MatrixView& compressed) {
  check_format(compressed.quant);
  check_view(plain, compressed.rows, compressed.cols, plain.dtype, "quantize: the plain matrix");
  check_stored_view(compressed, plain.rows, plain.cols, compressed.dtype, "quantize: the compressed matrix");
}

float row_element(const MatrixView& view, std::int64_t row, std::int64_t index) {
  if (!view.is_compressed()) return load_element(view.row(row), view.dtype, index);
  return stored_element(view.row(row), view.row(row) + view.quant.row_parameter_offset(view.cols), view.quant, index);
}

bool quantize_rows(const MatrixView& from, const MatrixView& to, int refinements) {
  check_quantize(from, to);
  return quantize_rows_host(from, to, refinements);
}

void dequantize_rows(const OpContext& context, const MatrixView& from, const MatrixView& to) {
  check_quantize(to, from);
  if (from.rows == 0 || from.cols == 0) return;
  switch (choose_implementation(context, "dequantize_rows")) {
    case Implementation::reference: dequantize_rows_reference(from, to); return;
    case Implementation::host: dequantize_rows_host(from, to); return;
    case Implementation::cuda:
#ifdef FLEXGEN_HAS_CUDA
      dequantize_rows_cuda(context, from, to);
#endif
      return;
  }
}

}  // namespace flexgen
