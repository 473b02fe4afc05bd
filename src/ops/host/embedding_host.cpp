#include <cstring>

#include "ops/host/add_elements.hpp"
#include "ops/host/host_ops.hpp"
#include "ops/host/stored/stored_kernels.hpp"
#include "ops/parallel_for.hpp"

namespace flexgen {
namespace {

constexpr std::int64_t kEmbeddingElementsPerTask = 65536;

}  // namespace

void gather_rows_host(const TableView& table, const std::int32_t* index, const MatrixView& out) {
  const QuantFormat& format = table.first.quant;
  const std::int64_t parameters = format.is_none() ? 0 : format.row_parameter_offset(out.cols);
  const std::size_t row_bytes = static_cast<std::size_t>(out.cols) * element_bytes(out.dtype);
  parallel_ranges(out.rows, 1 + kEmbeddingElementsPerTask / out.cols, [&](std::int64_t first, std::int64_t count) {
    for (std::int64_t i = first; i < first + count; ++i) {
      const std::byte* row = table.row(index[i]);
      if (format.is_none()) std::memcpy(out.row(i), row, row_bytes);
      else stored_kernels().decode(row, row + parameters, format, out.cols, out.dtype, out.row(i));
    }
  });
}

void add_gathered_rows_host(const TableView& table, const std::int32_t* index, const MatrixView& out) {
  parallel_ranges(out.rows, 1 + kEmbeddingElementsPerTask / out.cols, [&](std::int64_t first, std::int64_t count) {
    for (std::int64_t i = first; i < first + count; ++i)
      add_elements(out.row(i), table.row(index[i]), out.row(i), out.dtype, out.cols);
  });
}

}  // namespace flexgen
