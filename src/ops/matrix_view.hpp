// A view of a row-major matrix in memory of the device that computes. Owns nothing.
#pragma once

#include <cstddef>
#include <cstdint>

#include "spec/dtype.hpp"
#include "spec/quantization.hpp"

namespace flexgen {

/// A compressed matrix (quant.bits > 0) stands for values of `dtype`; its rows are quant.row_bytes(cols) long, and
/// row_stride counts bytes. Only ops that say so take one, and none takes a range of its columns.
struct MatrixView {
  std::byte* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t row_stride = 0;  // elements from one row to the next; >= cols
  DType dtype = DType::float32;
  QuantFormat quant = {};

  bool is_compressed() const { return !quant.is_none(); }
  std::byte* row(std::int64_t r) const {
    return data + static_cast<std::uint64_t>(r * row_stride) * (is_compressed() ? 1 : element_bytes(dtype));
  }
  MatrixView row_range(std::int64_t first, std::int64_t count) const {
    return {row(first), count, cols, row_stride, dtype, quant};
  }
  MatrixView col_range(std::int64_t first, std::int64_t count) const {
    return {data + static_cast<std::uint64_t>(first) * element_bytes(dtype), rows, count, row_stride, dtype, quant};
  }
  bool contiguous() const { return row_stride == (is_compressed() ? quant.row_bytes(cols) : cols) || rows <= 1; }
  std::uint64_t size_bytes() const {
    return is_compressed() ? static_cast<std::uint64_t>(rows * quant.row_bytes(cols))
                           : static_cast<std::uint64_t>(rows * cols) * element_bytes(dtype);
  }
};

inline MatrixView contiguous_view(std::byte* data, std::int64_t rows, std::int64_t cols, DType dtype,
                                  const QuantFormat& quant = {}) {
  return {data, rows, cols, quant.is_none() ? cols : quant.row_bytes(cols), dtype, quant};
}

}  // namespace flexgen
