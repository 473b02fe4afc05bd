// Table look-ups: token and position embeddings, and picking rows of a matrix.
#pragma once

#include <cstdint>
#include <optional>

#include "ops/context.hpp"
#include "ops/matrix_view.hpp"

namespace flexgen {

/// A matrix whose last rows may lie apart from the first: each part in memory of the computing device or in pinned host
/// memory, as it sees it. Both parts have the same columns, stride and format.
struct TableView {
  MatrixView first;
  MatrixView rest;  // rows from first.rows on; none: all are in `first`

  TableView(const MatrixView& whole) : first(whole) {}  // NOLINT(google-explicit-constructor): a matrix is a table
  TableView(const MatrixView& first_part, const MatrixView& rest_part) : first(first_part), rest(rest_part) {}

  std::int64_t rows() const { return first.rows + rest.rows; }
  const std::byte* row(std::int64_t r) const { return r < first.rows ? first.row(r) : rest.row(r - first.rows); }
  /// Rows begin, begin + 1, ..., begin + count - 1.
  TableView row_range(std::int64_t begin, std::int64_t count) const;
};

/// out[i] = table[index[i]], the table plain or compressed; index in the computing device's memory, every value within
/// the table.
void gather_rows(const OpContext& context, const TableView& table, const std::int32_t* index, const MatrixView& out);
void gather_rows_reference(const TableView& table, const std::int32_t* index, const MatrixView& out);

/// out[i] += table[index[i]] (learned positions on top of token embeddings); accumulated in float32, rounded once.
void add_gathered_rows(const OpContext& context, const TableView& table, const std::int32_t* index,
                       const MatrixView& out);
void add_gathered_rows_reference(const TableView& table, const std::int32_t* index, const MatrixView& out);

}  // namespace flexgen
