// Compressing and decompressing rows on the host: a row's own bits whatever the threads.
#include <atomic>
#include <cstring>

#include "ops/host/host_kernels.hpp"
#include "ops/host/scratch.hpp"
#include "ops/host/stored/stored_kernels.hpp"
#include "ops/host_scratch.hpp"
#include "ops/parallel_for.hpp"
#include "ops/quantize_rows.hpp"

namespace flexgen {
namespace {

constexpr std::int64_t kQuantizeElementsPerTask = 32768;

/// A row, widened.
std::int64_t quantized_row_floats(std::int64_t cols) { return cols; }

}  // namespace

bool quantize_rows_host(const MatrixView& from, const MatrixView& to, int refinements) {
  const std::int64_t cols = from.cols;
  const StoredKernels& kernels = stored_kernels();
  std::atomic<bool> finite = true;
  parallel_ranges(from.rows, 1 + kQuantizeElementsPerTask / (cols + 1), [&](std::int64_t first, std::int64_t count) {
    bool all = true;
    ScratchFrame scratch;
    float* copy = from.dtype == DType::float32 ? nullptr : scratch.floats(quantized_row_floats(cols));
    for (std::int64_t r = first; r < first + count; ++r) {
      const float* wide = reinterpret_cast<const float*>(from.row(r));
      if (copy != nullptr) {
        host_kernels().to_float(from.row(r), from.dtype, copy, cols);
        wide = copy;
      }
      std::byte* codes = to.row(r);
      std::byte* parameters = codes + to.quant.row_parameter_offset(cols);
      std::memset(codes + to.quant.code_bytes(cols), 0,
                  static_cast<std::size_t>(to.quant.row_parameter_offset(cols) - to.quant.code_bytes(cols)));
      std::memset(parameters + to.quant.parameter_bytes(cols), 0,
                  static_cast<std::size_t>(to.quant.row_bytes(cols) - to.quant.row_parameter_offset(cols) -
                                           to.quant.parameter_bytes(cols)));
      all &= kernels.encode(wide, cols, to.quant, refinements, codes, parameters);
    }
    if (!all) finite.store(false, std::memory_order_relaxed);
  });
  return finite.load(std::memory_order_relaxed);
}

std::uint64_t quantize_scratch_bytes(std::int64_t cols) {
  return scratch_piece_bytes<float>(quantized_row_floats(cols));
}

void dequantize_rows_host(const MatrixView& from, const MatrixView& to) {
  const std::int64_t cols = from.cols;
  parallel_ranges(from.rows, 1 + kQuantizeElementsPerTask / (cols + 1), [&](std::int64_t first, std::int64_t count) {
    for (std::int64_t r = first; r < first + count; ++r)
      stored_kernels().decode(from.row(r), from.row(r) + from.quant.row_parameter_offset(cols), from.quant, cols,
                              to.dtype, to.row(r));
  });
}

}  // namespace flexgen
