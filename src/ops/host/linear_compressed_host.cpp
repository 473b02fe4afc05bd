// The matrix product with a compressed weight on the host: rows of the weight are decompressed into the caches, some at
// a time, and multiplied by linear_host before they leave. Stored bytes are read once; bits do not depend on the tiles.
#include <algorithm>

#include "ops/host/host_ops.hpp"
#include "ops/host/scratch.hpp"
#include "ops/host_scratch.hpp"
#include "ops/parallel_for.hpp"
#include "ops/quantize_rows.hpp"

namespace flexgen {
namespace {

constexpr std::int64_t kFewTokens = 8;
constexpr std::int64_t kFewTokensFloats = 48 << 10;  // a tile: 192 KiB of the L2 cache
constexpr std::int64_t kTileFloats = 256 << 10;      // more tokens: more outputs for each time x is packed
constexpr std::int64_t kUnit = 12;                   // a multiple of the rows of a panel

/// Outputs of a tile.
std::int64_t tile_width(std::int64_t tokens, std::int64_t outputs, std::int64_t in, int num_threads) {
  const std::int64_t most = (tokens <= kFewTokens ? kFewTokensFloats : kTileFloats) / (in + 1);
  const std::int64_t share = outputs / (4 * num_threads);
  return (std::min(most, share) / kUnit + 1) * kUnit;
}
std::int64_t weight_floats(std::int64_t outputs, std::int64_t in) { return outputs * in; }

}  // namespace

void linear_compressed_host(const LinearArgs& args) {
  const std::int64_t outputs = args.weight.rows, in = args.weight.cols;
  const std::int64_t width = tile_width(args.x.rows, outputs, in, num_loop_threads());
  // bfloat16 as it is, where the processor may multiply that; else what it would be widened to.
  const DType dtype = args.x.dtype == DType::bfloat16 ? DType::bfloat16 : DType::float32;
  const bool worth_threads = args.x.rows * outputs * in > 200'000;
  parallel_for((outputs + width - 1) / width, worth_threads, [&](std::int64_t task) {
    const std::int64_t first = task * width, count = std::min(width, outputs - first);
    const MatrixView stored = args.weight.row_range(first, count);
    ScratchFrame scratch;
    const MatrixView weight =
        contiguous_view(reinterpret_cast<std::byte*>(scratch.floats(weight_floats(count, in))), count, in, dtype);
    dequantize_rows_host(stored, weight);
    LinearArgs tile = args;
    tile.weight = weight;
    if (args.bias) tile.bias = args.bias->col_range(first, count);
    if (args.residual) tile.residual = args.residual->col_range(first, count);
    tile.out = args.out.col_range(first, count);
    linear_host(tile);
  });
}

// A tile is widest where threads are fewest and tokens most.
std::uint64_t linear_compressed_scratch_bytes(const LinearSizes& most) {
  const std::int64_t width = std::min(tile_width(most.tokens, most.outputs, most.inputs, 1), most.outputs);
  return scratch_piece_bytes<float>(weight_floats(width, most.inputs));
}

}  // namespace flexgen
