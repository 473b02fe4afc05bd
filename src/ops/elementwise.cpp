#include "ops/elementwise.hpp"

#include <cstring>

#include "ops/dispatch.hpp"
#include "ops/element_access.hpp"
#include "ops/host/host_ops.hpp"
#ifdef FLEXGEN_HAS_CUDA
#include "ops/cuda/cuda_kernels.hpp"
#endif

namespace flexgen {
namespace {

void add_reference(const MatrixView& x, const MatrixView& y, const MatrixView& out) {
  for (std::int64_t t = 0; t < out.rows; ++t) {
    for (std::int64_t i = 0; i < out.cols; ++i)
      store_element(out.row(t), out.dtype, i, load_element(x.row(t), x.dtype, i) + load_element(y.row(t), y.dtype, i));
  }
}

}  // namespace

void add(const OpContext& context, const MatrixView& x, const MatrixView& y, const MatrixView& out) {
  check_view(x, out.rows, out.cols, out.dtype, "add: x");
  check_view(y, out.rows, out.cols, out.dtype, "add: y");
  check_view(out, out.rows, out.cols, out.dtype, "add: out");
  if (out.rows == 0 || out.cols == 0) return;
  switch (choose_implementation(context, "add")) {
    case Implementation::reference: add_reference(x, y, out); return;
    case Implementation::host: add_host(x, y, out); return;
    case Implementation::cuda:
#ifdef FLEXGEN_HAS_CUDA
      add_cuda(context, x, y, out);
#endif
      return;
  }
}

void copy_bytes(const OpContext& context, const std::byte* from, std::byte* to, std::uint64_t count) {
  if (count == 0) return;
  if (choose_implementation(context, "copy_bytes") == Implementation::cuda) {
#ifdef FLEXGEN_HAS_CUDA
    copy_bytes_cuda(context, from, to, count);
#endif
    return;
  }
  std::memcpy(to, from, count);
}

}  // namespace flexgen
