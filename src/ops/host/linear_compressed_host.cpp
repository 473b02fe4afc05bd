// The matrix product with a compressed weight on the host: rows of the weight are decompressed into the caches, some at
// a time, and multiplied by linear_host before they leave. Stored bytes are read once; bits do not depend on the tiles.
#include <algorithm>

#include "ops/host/host_ops.hpp"
#include "ops/host/scratch.hpp"
#include "ops/parallel_for.hpp"
#include "ops/quantize_rows.hpp"

namespace flexgen {
namespace {

constexpr std::int64_t kFewTokens = 8;
constexpr std::int64_t kFewTokensFloats = 48 << 10;  // a tile: 192 KiB of the L2 cache
constexpr std::int64_t kTileFloats = 256 << 10;      // more tokens: more outputs for each time x is packed
constexpr std::int64_t kUnit = 12;                   // a multiple of the rows of a panel

thread_local Scratch weight_scratch;

}  // namespace

void linear_compressed_host(const LinearArgs& args) {
  const std::int64_t outputs = args.weight.rows, in = args.weight.cols;
  const std::int64_t most = (args.x.rows <= kFewTokens ? kFewTokensFloats : kTileFloats) / (in + 1);
  const std::int64_t share = outputs / (4 * num_loop_threads());
  const std::int64_t width = (std::min(most, share) / kUnit + 1) * kUnit;
  // bfloat16 as it is, where the processor may multiply that; else what it would be widened to.
  const DType dtype = args.x.dtype == DType::bfloat16 ? DType::bfloat16 : DType::float32;
  const bool worth_threads = args.x.rows * outputs * in > 200'000;
  parallel_for((outputs + width - 1) / width, worth_threads, [&](std::int64_t task) {
    const std::int64_t first = task * width, count = std::min(width, outputs - first);
    const MatrixView stored = args.weight.row_range(first, count);
    const MatrixView weight =
        contiguous_view(reinterpret_cast<std::byte*>(weight_scratch.floats(count * in)), count, in, dtype);
    dequantize_rows_host(stored, weight);
    LinearArgs tile = args;
    tile.weight = weight;
    if (args.bias) tile.bias = args.bias->col_range(first, count);
    if (args.residual) tile.residual = args.residual->col_range(first, count);
    tile.out = args.out.col_range(first, count);
    linear_host(tile);
  });
}

}  // namespace flexgen
