#include "ops/linear.hpp"

#include <fmt/core.h>

#include <algorithm>

#include "ops/dispatch.hpp"
#include "ops/host/host_ops.hpp"
#include "ops/quantize_rows.hpp"
#ifdef FLEXGEN_HAS_CUDA
#include "ops/cuda/cuda_kernels.hpp"
#include "ops/cuda/linear/compressed_tiles.hpp"
#include "ops/cuda/linear/cublas.hpp"
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

// Compressed weights are dequantized a piece at a time. Where memory binds, pieces that the GPU's cache holds on to
// between the two kernels; where arithmetic does, pieces that give every multiprocessor enough tiles.
constexpr std::uint64_t kCachedPieceBytes = 32ULL << 20;
constexpr std::uint64_t kLargestPieceBytes = 128ULL << 20;
constexpr std::int64_t kManyTokens = 512;

#ifdef FLEXGEN_HAS_CUDA
/// Few tokens: codes go straight into the product. Many: the matrix is dequantized in the workspace first.
void linear_compressed_gpu(const OpContext& context, const LinearArgs& args) {
#ifdef FLEXGEN_HAS_SM90A
  if (linear_compressed_tiles_takes(context, args)) return linear_compressed_tiles_cuda(context, args);
#endif
  if (linear_compressed_takes(context, args)) return linear_compressed_cuda(context, args);
  FLEXGEN_CHECK(context.workspace != nullptr, "linear: compressed weights need a workspace");
  const Workspace::Scope scope(*context.workspace);
  const std::uint64_t piece_bytes = args.x.rows >= kManyTokens ? kLargestPieceBytes : kCachedPieceBytes;
  const std::uint64_t row_bytes = static_cast<std::uint64_t>(args.weight.cols) * element_bytes(args.weight.dtype);
  const std::int64_t most = std::max<std::int64_t>(1, static_cast<std::int64_t>(piece_bytes / row_bytes));
  const std::int64_t num_pieces = (args.weight.rows + most - 1) / most;
  const std::int64_t grain = args.weight.rows > 1024 ? 64 : 1;  // pieces of whole tiles of the product
  const std::int64_t rows = ((args.weight.rows + num_pieces - 1) / num_pieces + grain - 1) / grain * grain;
  std::byte* const memory =
      context.workspace->take(static_cast<std::uint64_t>(rows) * row_bytes, "linear: dequantized weights");
  for (std::int64_t first = 0; first < args.weight.rows; first += rows) {
    const std::int64_t count = std::min(rows, args.weight.rows - first);
    LinearArgs piece = args;
    piece.weight = contiguous_view(memory, count, args.weight.cols, args.weight.dtype);
    if (args.bias) piece.bias = args.bias->col_range(first, count);
    if (args.residual) piece.residual = args.residual->col_range(first, count);
    piece.out = args.out.col_range(first, count);
    dequantize_rows_cuda(context, args.weight.row_range(first, count), piece.weight);
    linear_cublas(context, piece);  // linear_few_tokens_cuda would read weights before they are written
  }
}
#endif

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
      if (args.weight.is_compressed()) linear_compressed_gpu(context, args);
      else if (linear_few_tokens_takes(context, args)) linear_few_tokens_cuda(context, args);
      else linear_cublas(context, args);
#endif
      return;
  }
}

std::uint64_t linear_workspace_bytes(const Device& device) { return device.is_cuda() ? blas_workspace_bytes : 0; }

std::uint64_t linear_compressed_workspace_bytes(const Device& device) {
  return device.is_cuda() ? kLargestPieceBytes + kCachedPieceBytes / 2 : 0;  // rows are cut to whole tiles
}

}  // namespace flexgen
