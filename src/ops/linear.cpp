#include "ops/linear.hpp"

#include <fmt/format.h>

#include "ops/dispatch.hpp"
#include "ops/host_ops.hpp"
#include "ops/quantize_rows.hpp"
#ifdef FLEXGEN_HAS_CUDA
#include "ops/cuda_kernels.hpp"
#include "ops/linear_cublas.hpp"
#endif

namespace flexgen {
namespace {

void check(const LinearArgs& args) {
  const std::int64_t tokens = args.x.rows;
  const std::int64_t out = args.weight.rows;
  const DType dtype = args.x.dtype;
  check_view(args.x, tokens, args.weight.cols, dtype, "linear: x");
  check_stored_view(args.weight, out, args.weight.cols, dtype, "linear: weight");
  if (args.weight.is_compressed()) check_format(args.weight.quant);
  check_view(args.out, tokens, out, args.out.dtype == DType::float32 ? DType::float32 : dtype, "linear: out");
  if (args.bias) check_view(*args.bias, 1, out, dtype, "linear: bias");
  if (args.residual) check_view(*args.residual, tokens, out, dtype, "linear: residual");
}

}  // namespace

void linear(const OpContext& context, const LinearArgs& args) {
  check(args);
  if (args.out.rows == 0 || args.out.cols == 0) return;
  switch (choose_implementation(context, "linear")) {
    case Implementation::reference: linear_reference(args); return;
    case Implementation::host:
      if (args.weight.is_compressed()) return linear_compressed_host(args);
#ifdef FLEXGEN_HAS_TORCH
      if (linear_prefers_torch(args)) return linear_torch(args);
#endif
      linear_host(args);
      return;
    case Implementation::cuda:
#ifdef FLEXGEN_HAS_CUDA
      if (linear_few_tokens_takes(context, args)) linear_few_tokens_cuda(context, args);
      else linear_cublas(context, args);
#endif
      return;
  }
}

std::uint64_t linear_workspace_bytes(const Device& device) {
  if (!device.is_cuda()) return 0;
#ifdef FLEXGEN_HAS_CUDA
  return linear_workspace_bytes_cublas();
#else
  fail_without_cuda("linear");
#endif
}

}  // namespace flexgen
