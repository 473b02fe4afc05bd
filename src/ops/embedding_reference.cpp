#include "ops/element_access.hpp"
#include "ops/embedding.hpp"
#include "ops/quantize_rows.hpp"

namespace flexgen {

void gather_rows_reference(const MatrixView& table, const std::int32_t* index, const MatrixView& out) {
  for (std::int64_t i = 0; i < out.rows; ++i) {
    for (std::int64_t j = 0; j < out.cols; ++j)
      store_element(out.row(i), out.dtype, j, row_element(table, index[i], j));
  }
}

void add_gathered_rows_reference(const MatrixView& table, const std::int32_t* index, const MatrixView& out) {
  for (std::int64_t i = 0; i < out.rows; ++i) {
    for (std::int64_t j = 0; j < out.cols; ++j) {
      const float sum = load_element(out.row(i), out.dtype, j) + load_element(table.row(index[i]), table.dtype, j);
      store_element(out.row(i), out.dtype, j, sum);
    }
  }
}

}  // namespace flexgen
