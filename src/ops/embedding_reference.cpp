#include "ops/element_access.hpp"
#include "ops/embedding.hpp"
#include "ops/quantize_rows.hpp"

namespace flexgen {

void gather_rows_reference(const TableView& table, const std::int32_t* index, const MatrixView& out) {
  for (std::int64_t i = 0; i < out.rows; ++i) {
    const bool is_first = index[i] < table.first.rows;
    const MatrixView& part = is_first ? table.first : table.rest;
    const std::int64_t row = is_first ? index[i] : index[i] - table.first.rows;
    for (std::int64_t j = 0; j < out.cols; ++j) store_element(out.row(i), out.dtype, j, row_element(part, row, j));
  }
}

void add_gathered_rows_reference(const TableView& table, const std::int32_t* index, const MatrixView& out) {
  for (std::int64_t i = 0; i < out.rows; ++i) {
    for (std::int64_t j = 0; j < out.cols; ++j) {
      const float sum =
          load_element(out.row(i), out.dtype, j) + load_element(table.row(index[i]), table.first.dtype, j);
      store_element(out.row(i), out.dtype, j, sum);
    }
  }
}

}  // namespace flexgen
