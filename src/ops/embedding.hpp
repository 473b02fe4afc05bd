// Table look-ups: token and position embeddings, and picking rows of a matrix.
#pragma once

#include <cstdint>
#include <optional>

#include "ops/context.hpp"
#include "ops/matrix_view.hpp"

namespace flexgen {

/// out[i] = table[index[i]], the table plain or compressed; index in the computing device's memory, every value within
/// the table.
void gather_rows(const OpContext& context, const MatrixView& table, const std::int32_t* index, const MatrixView& out);
void gather_rows_reference(const MatrixView& table, const std::int32_t* index, const MatrixView& out);

/// out[i] += table[index[i]] (learned positions on top of token embeddings); accumulated in float32, rounded once.
void add_gathered_rows(const OpContext& context, const MatrixView& table, const std::int32_t* index,
                       const MatrixView& out);
void add_gathered_rows_reference(const MatrixView& table, const std::int32_t* index, const MatrixView& out);

}  // namespace flexgen
