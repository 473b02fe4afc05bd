#include "ops/embedding.hpp"

#include "ops/dispatch.hpp"
#include "ops/host/host_ops.hpp"
#include "ops/quantize_rows.hpp"
#ifdef FLEXGEN_HAS_CUDA
#include "ops/cuda/cuda_kernels.hpp"
#endif

namespace flexgen {
namespace {

void check(const OpContext& context, const MatrixView& table, const std::int32_t* index, const MatrixView& out) {
  check_stored_view(table, table.rows, out.cols, table.dtype, "embedding: table");
  if (table.is_compressed()) check_format(table.quant);
  check_view(out, out.rows, out.cols, table.dtype, "embedding: out");
  FLEXGEN_CHECK(index != nullptr || out.rows == 0, "embedding: no indices");
  if (context.device.is_cuda()) return;  // the indices are the GPU's to read
  for (std::int64_t i = 0; i < out.rows; ++i)
    FLEXGEN_CHECK(index[i] >= 0 && index[i] < table.rows, "embedding: an index lies outside the table");
}

}  // namespace

void gather_rows(const OpContext& context, const MatrixView& table, const std::int32_t* index, const MatrixView& out) {
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

void add_gathered_rows(const OpContext& context, const MatrixView& table, const std::int32_t* index,
                       const MatrixView& out) {
  FLEXGEN_CHECK(!table.is_compressed(), "add_gathered_rows: the table is compressed");
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
