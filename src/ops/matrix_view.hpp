// A view of a row-major matrix in memory of the device that computes. Owns nothing.
#pragma once

#include <cstddef>
#include <cstdint>

#include "spec/dtype.hpp"

namespace flexgen {

struct MatrixView {
  std::byte* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t row_stride = 0;  // elements from one row to the next; >= cols
  DType dtype = DType::float32;

  std::byte* row(std::int64_t r) const {
    return data + static_cast<std::uint64_t>(r * row_stride) * element_bytes(dtype);
  }
  MatrixView row_range(std::int64_t first, std::int64_t count) const {
    return {row(first), count, cols, row_stride, dtype};
  }
  MatrixView col_range(std::int64_t first, std::int64_t count) const {
    return {data + static_cast<std::uint64_t>(first) * element_bytes(dtype), rows, count, row_stride, dtype};
  }
  bool contiguous() const { return row_stride == cols || rows <= 1; }
  std::uint64_t size_bytes() const { return static_cast<std::uint64_t>(rows * cols) * element_bytes(dtype); }
};

inline MatrixView contiguous_view(std::byte* data, std::int64_t rows, std::int64_t cols, DType dtype) {
  return {data, rows, cols, cols, dtype};
}

}  // namespace flexgen
