// bfloat16 products of many tokens on the host through ATen, where the processor has tiles for them (AMX): oneDNN uses
// these, our own kernels the dot products of AVX-512 alone. Elsewhere ours are within a fifth of oneDNN's rate, and a
// token's bits do not depend on the tokens beside it.
//
// Our own threads take tiles of outputs, and ATen computes each with one thread: a second pool would wait actively on
// the processors that the first one needs. Tiles are of one size whatever the number of threads, and so are results.
#include <ATen/core/Tensor.h>
#include <ATen/ops/add.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/relu.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>

#include "ops/host/host_ops.hpp"
#include "ops/parallel_for.hpp"

namespace flexgen {
namespace {

constexpr std::int64_t kTileOutputs = 256;  // small enough for many threads, large against ATen's cost per call
constexpr std::int64_t kTileTokens = 256;
constexpr std::int64_t kFewTokens = 8;  // up to here our own loops are as fast, and allocate nothing
// Elements of a sum that a tile takes at a time. oneDNN fills a last one up with what follows the token, and only the
// weights with zeros: a NaN of the next token would come in.
constexpr std::int64_t kTileDepth = 32;

at::Tensor tensor_of(const MatrixView& view) {
  return at::from_blob(view.data, {view.rows, view.cols}, {view.rows > 1 ? view.row_stride : view.cols, 1},
                       at::TensorOptions(at::kBFloat16));
}

bool processor_has_bfloat16_tiles() {
#if defined(__x86_64__)
  static const bool supported = (__builtin_cpu_init(), __builtin_cpu_supports("amx-bf16") != 0);
  return supported;
#else
  return false;
#endif
}

void multiply_tile(const LinearArgs& args) {
  thread_local const bool alone = (at::set_num_threads(1), true);
  static_cast<void>(alone);
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

}  // namespace

bool linear_prefers_torch(const LinearArgs& args) {
  return args.x.dtype == DType::bfloat16 && args.out.dtype == DType::bfloat16 && args.x.rows > kFewTokens &&
         args.x.cols % kTileDepth == 0 && processor_has_bfloat16_tiles();
}

void linear_torch(const LinearArgs& args) {
  const std::int64_t tokens = args.x.rows, outputs = args.weight.rows;
  const std::int64_t token_tiles = (tokens + kTileTokens - 1) / kTileTokens;
  const std::int64_t output_tiles = (outputs + kTileOutputs - 1) / kTileOutputs;
  parallel_for(token_tiles * output_tiles, true, [&](std::int64_t index) {
    const std::int64_t token = index % token_tiles * kTileTokens, output = index / token_tiles * kTileOutputs;
    const std::int64_t rows = std::min(kTileTokens, tokens - token), cols = std::min(kTileOutputs, outputs - output);
    LinearArgs tile = args;
    tile.x = args.x.row_range(token, rows);
    tile.weight = args.weight.row_range(output, cols);
    tile.out = args.out.row_range(token, rows).col_range(output, cols);
    if (args.bias) tile.bias = args.bias->col_range(output, cols);
    if (args.residual) tile.residual = args.residual->row_range(token, rows).col_range(output, cols);
    multiply_tile(tile);
  });
}

}  // namespace flexgen
