#include <cstring>

#include "ops/host/add_elements.hpp"
#include "ops/host/compressed_kernels.hpp"
#include "ops/host/host_ops.hpp"
#include "ops/parallel_for.hpp"

namespace flexgen {
namespace {

constexpr std::int64_t kElementsPerTask = 65536;

}  // namespace

void gather_rows_host(const MatrixView& table, const std::int32_t* index, const MatrixView& out) {
  const std::size_t row_bytes = static_cast<std::size_t>(out.cols) * element_bytes(out.dtype);
  parallel_ranges(out.rows, 1 + kElementsPerTask / out.cols, [&](std::int64_t first, std::int64_t count) {
    for (std::int64_t i = first; i < first + count; ++i) {
      if (table.is_compressed()) {
        const std::byte* row = table.row(index[i]);
        compressed_kernels().decode(row, row + table.quant.row_parameter_offset(table.cols), table.quant, table.cols,
                                    out.dtype, out.row(i));
        continue;
      }
      std::memcpy(out.row(i), table.row(index[i]), row_bytes);
    }
  });
}

void add_gathered_rows_host(const MatrixView& table, const std::int32_t* index, const MatrixView& out) {
  parallel_ranges(out.rows, 1 + kElementsPerTask / out.cols, [&](std::int64_t first, std::int64_t count) {
    for (std::int64_t i = first; i < first + count; ++i)
      add_elements(out.row(i), table.row(index[i]), out.row(i), out.dtype, out.cols);
  });
}

}  // namespace flexgen
