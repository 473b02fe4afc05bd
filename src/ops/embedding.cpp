#include "ops/embedding.hpp"

#include <algorithm>

#include "ops/dispatch.hpp"
#include "ops/host/host_ops.hpp"
#include "ops/quantize_rows.hpp"
#ifdef FLEXGEN_HAS_CUDA
#include "ops/cuda/cuda_kernels.hpp"
#endif

namespace flexgen {
namespace {

void check(const OpContext& context, const TableView& table, const std::int32_t* index, const MatrixView& out) {
  const MatrixView& first = table.first;
  check_stored_view(first, first.rows, out.cols, first.dtype, "embedding: table");
  if (table.rest.rows > 0) {
    check_stored_view(table.rest, table.rest.rows, out.cols, first.dtype, "embedding: rest of the table");
    FLEXGEN_CHECK(table.rest.row_stride == first.row_stride && table.rest.quant == first.quant,
                  "embedding: the parts of the table differ");
  }
  if (first.is_compressed()) check_format(first.quant);
  check_view(out, out.rows, out.cols, first.dtype, "embedding: out");
  FLEXGEN_CHECK(index != nullptr || out.rows == 0, "embedding: no indices");
  if (context.device.is_cuda()) return;  // the indices are the GPU's to read
  for (std::int64_t i = 0; i < out.rows; ++i)
    FLEXGEN_CHECK(index[i] >= 0 && index[i] < table.rows(), "embedding: an index lies outside the table");
}

}  // namespace

TableView TableView::row_range(std::int64_t begin, std::int64_t count) const {
  const std::int64_t here = std::clamp<std::int64_t>(first.rows - begin, 0, count);
  const std::int64_t from = std::max<std::int64_t>(0, begin - first.rows);
  return {first.row_range(std::min(begin, first.rows), here), rest.row_range(from, count - here)};
}

void gather_rows(const OpContext& context, const TableView& table, const std::int32_t* index, const MatrixView& out) {
  check(context, table, index, out);
  if (out.rows == 0 || out.cols == 0) return;
  switch (choose_implementation(context, "gather_rows")) {
    case Implementation::reference: gather_rows_reference(table, index, out); return;
    case Implementation::host: gather_rows_host(table, index, out); return;
    case Implementation::cuda:
#ifdef FLEXGEN_HAS_CUDA
      gather_rows_cuda(context, table, index, out);
#endif
      return;
  }
}

void add_gathered_rows(const OpContext& context, const TableView& table, const std::int32_t* index,
                       const MatrixView& out) {
  FLEXGEN_CHECK(!table.first.is_compressed(), "add_gathered_rows: the table is compressed");
  check(context, table, index, out);
  if (out.rows == 0 || out.cols == 0) return;
  switch (choose_implementation(context, "add_gathered_rows")) {
    case Implementation::reference: add_gathered_rows_reference(table, index, out); return;
    case Implementation::host: add_gathered_rows_host(table, index, out); return;
    case Implementation::cuda:
#ifdef FLEXGEN_HAS_CUDA
      add_gathered_rows_cuda(context, table, index, out);
#endif
      return;
  }
}

}  // namespace flexgen
