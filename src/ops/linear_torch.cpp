// bfloat16 products of many tokens on the host through ATen: oneDNN uses the processor's bfloat16 dot products and
// tiles, three times the rate of widening to float32.
#include <ATen/core/Tensor.h>
#include <ATen/ops/add.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/relu.h>
#include <c10/core/InferenceMode.h>

#include "ops/host_ops.hpp"

namespace flexgen {
namespace {

constexpr std::int64_t kFewTokens = 8;  // up to here our own loops are as fast, and allocate nothing

at::Tensor tensor_of(const MatrixView& view) {
  return at::from_blob(view.data, {view.rows, view.cols}, {view.rows > 1 ? view.row_stride : view.cols, 1},
                       at::TensorOptions(at::kBFloat16));
}

bool processor_multiplies_bfloat16() {
#if defined(__x86_64__)
  static const bool supported = (__builtin_cpu_init(), __builtin_cpu_supports("avx512bf16") != 0);
  return supported;
#else
  return false;
#endif
}

}  // namespace

bool linear_prefers_torch(const LinearArgs& args) {
  return args.x.dtype == DType::bfloat16 && args.out.dtype == DType::bfloat16 && args.x.rows > kFewTokens &&
         args.x.cols > 0 && processor_multiplies_bfloat16();
}

void linear_torch(const LinearArgs& args) {
  const c10::InferenceMode inference;
  const at::Tensor x = tensor_of(args.x);
  const at::Tensor weight = tensor_of(args.weight).t();
  at::Tensor out = tensor_of(args.out);
  // The residual may be `out` itself: the product then needs a place of its own.
  at::Tensor product = args.residual ? at::empty_like(out, at::MemoryFormat::Contiguous) : out;
  if (args.bias) {
    at::addmm_out(product, tensor_of(*args.bias), x, weight);
  } else {
    at::mm_out(product, x, weight);
  }
  if (args.activation == Activation::relu) at::relu_(product);
  if (args.activation == Activation::gelu) at::gelu_(product);
  if (args.residual) at::add_out(out, product, tensor_of(*args.residual));
}

}  // namespace flexgen
