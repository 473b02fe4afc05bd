// Own matrix product on the host. Weights are read where they lie, in their own dtype; sums are float32.
//
// A token's result has the same bits whatever other tokens are in the call: sums run over blocks of kDepth inputs, and
// in a block in the order that HostKernels::dots fixes.
#include <algorithm>
#include <cmath>

#include "ops/element_access.hpp"
#include "ops/host_kernels.hpp"
#include "ops/host_ops.hpp"
#include "ops/parallel_for.hpp"
#include "ops/scratch.hpp"

namespace flexgen {
namespace {

constexpr std::int64_t kDepth = 1024;      // inputs per block: a panel of weight rows stays in the L1 cache
constexpr std::int64_t kBlockTokens = 96;  // x block: 384 KiB of L2
constexpr std::int64_t kStreamTokens = 8;  // up to here the weights' bandwidth binds
constexpr std::int64_t kWidenTokens = 24;  // from here on widening a panel of weights once pays

constexpr std::int64_t kPad = 16;  // floats: one cache line

thread_local Scratch thread_scratch;
thread_local Scratch wide_scratch;  // of the calling thread, read by all

struct Tile {
  std::int64_t first_token, num_tokens, first_output, num_outputs;
};

/// sums [num_tokens, num_outputs] -> out: bias, activation, residual, one rounding.
void finish(const LinearArgs& args, const Tile& tile, float* sums) {
  for (std::int64_t i = 0; i < tile.num_tokens; ++i) {
    float* row = sums + i * tile.num_outputs;
    if (args.bias) {
      for (std::int64_t j = 0; j < tile.num_outputs; ++j)
        row[j] += load_element(args.bias->data, args.bias->dtype, tile.first_output + j);
    }
    if (args.activation == Activation::relu) {
      for (std::int64_t j = 0; j < tile.num_outputs; ++j) row[j] = row[j] < 0.0F ? 0.0F : row[j];
    } else if (args.activation == Activation::gelu) {
      for (std::int64_t j = 0; j < tile.num_outputs; ++j)
        row[j] = 0.5F * row[j] * (1.0F + std::erf(row[j] * 0.70710678F));
    }
    if (args.residual) {
      const std::byte* residual = args.residual->row(tile.first_token + i);
      for (std::int64_t j = 0; j < tile.num_outputs; ++j)
        row[j] += load_element(residual, args.residual->dtype, tile.first_output + j);
    }
    std::byte* out = args.out.row(tile.first_token + i) + tile.first_output * element_bytes(args.out.dtype);
    host_kernels().from_float(row, out, args.out.dtype, tile.num_outputs);
  }
}

/// x as float32, for stream_tile: rows are kPad more than their length apart, else those of a hidden size that is a
/// power of two would crowd into a few sets of the L1 cache.
struct WideRows {
  const float* data;
  std::int64_t stride;
};

WideRows widen_rows(const MatrixView& x) {
  if (x.rows == 1 && x.dtype == DType::float32) return {reinterpret_cast<const float*>(x.data), x.cols};
  const std::int64_t stride = x.cols + kPad;
  float* wide = wide_scratch.floats(x.rows * stride);
  for (std::int64_t i = 0; i < x.rows; ++i) host_kernels().to_float(x.row(i), x.dtype, wide + i * stride, x.cols);
  return {wide, stride};
}

/// Few tokens: each weight row is read once, front to back.
void stream_tile(const LinearArgs& args, const WideRows& x, const Tile& tile) {
  const HostKernels& kernels = host_kernels();
  const std::int64_t in = args.x.cols;
  float* sums = thread_scratch.floats(tile.num_tokens * tile.num_outputs);
  DotsArgs dots;
  dots.a_stride = x.stride;
  dots.b_stride = args.weight.row_stride;
  dots.b_dtype = args.weight.dtype;
  dots.m = tile.num_tokens;
  dots.c_stride = tile.num_outputs;
  const std::int64_t panel = kernels.panel_rows;
  const bool contiguous = args.weight.contiguous();
  for (std::int64_t j = 0; j < tile.num_outputs; j += panel) {
    dots.n = std::min(panel, tile.num_outputs - j);
    dots.c = sums + j;
    for (std::int64_t k = 0; k < in; k += kDepth) {
      dots.k = std::min(kDepth, in - k);
      dots.a = x.data + k;
      dots.b = args.weight.row(tile.first_output + j) + k * element_bytes(args.weight.dtype);
      dots.accumulate = k > 0;
      // In time for the next panel: what lies one panel further on.
      const std::int64_t ahead = (j + panel) * in + k * dots.n;
      dots.next = contiguous && ahead + dots.n * dots.k <= tile.num_outputs * in
                      ? args.weight.row(tile.first_output) + ahead * element_bytes(args.weight.dtype)
                      : nullptr;
      kernels.dots(dots);
    }
  }
  finish(args, tile, sums);
}

/// Many tokens: a block of x stays in the L2 cache while panels of weights pass over it.
void block_tile(const LinearArgs& args, const Tile& tile) {
  const HostKernels& kernels = host_kernels();
  const std::int64_t in = args.x.cols;
  const bool widen_panels = args.weight.dtype != DType::float32 && tile.num_tokens >= kWidenTokens;
  const std::uint64_t bytes = element_bytes(args.x.dtype);
  float* sums = thread_scratch.floats(tile.num_tokens * (tile.num_outputs + kDepth) + kernels.panel_rows * kDepth);
  float* block = sums + tile.num_tokens * tile.num_outputs;
  float* panel = block + tile.num_tokens * kDepth;
  DotsArgs dots;
  dots.a = block;
  dots.m = tile.num_tokens;
  dots.c_stride = tile.num_outputs;
  for (std::int64_t k = 0; k < in; k += kDepth) {
    const std::int64_t depth = std::min(kDepth, in - k);
    for (std::int64_t i = 0; i < tile.num_tokens; ++i)
      kernels.to_float(args.x.row(tile.first_token + i) + k * bytes, args.x.dtype, block + i * depth, depth);
    dots.k = depth;
    dots.a_stride = depth;
    dots.accumulate = k > 0;
    for (std::int64_t j = 0; j < tile.num_outputs; j += kernels.panel_rows) {
      dots.n = std::min(kernels.panel_rows, tile.num_outputs - j);
      dots.c = sums + j;
      dots.b = args.weight.row(tile.first_output + j) + k * bytes;
      dots.b_stride = args.weight.row_stride;
      dots.b_dtype = args.weight.dtype;
      if (widen_panels) {
        for (std::int64_t p = 0; p < dots.n; ++p)
          kernels.to_float(args.weight.row(tile.first_output + j + p) + k * bytes, args.weight.dtype, panel + p * depth,
                           depth);
        dots.b = reinterpret_cast<const std::byte*>(panel);
        dots.b_stride = depth;
        dots.b_dtype = DType::float32;
      }
      kernels.dots(dots);
    }
  }
  finish(args, tile, sums);
}

}  // namespace

void linear_host(const LinearArgs& args) {
  const std::int64_t tokens = args.x.rows;
  const std::int64_t outputs = args.weight.rows;
  const bool stream = tokens <= kStreamTokens;
  const std::int64_t block_tokens = std::min(tokens, kBlockTokens);
  const std::int64_t token_tiles = (tokens + block_tokens - 1) / block_tokens;
  // Tiles of outputs: as wide as still gives every thread several.
  const std::int64_t wanted = (4 * num_loop_threads() + token_tiles - 1) / token_tiles;
  const std::int64_t unit = host_kernels().panel_rows * 2;
  const std::int64_t widest = stream ? 32 * unit : 8 * unit;
  const std::int64_t width = std::clamp((outputs / wanted + unit - 1) / unit * unit, unit, widest);
  const std::int64_t output_tiles = (outputs + width - 1) / width;
  const WideRows wide = stream ? widen_rows(args.x) : WideRows{nullptr, 0};
  const bool worth_threads = tokens * outputs * args.x.cols > 200'000;
  parallel_for(token_tiles * output_tiles, worth_threads, [&](std::int64_t task) {
    Tile tile{};
    tile.first_token = task / output_tiles * block_tokens;
    tile.num_tokens = std::min(block_tokens, tokens - tile.first_token);
    tile.first_output = task % output_tiles * width;
    tile.num_outputs = std::min(width, outputs - tile.first_output);
    stream ? stream_tile(args, wide, tile) : block_tile(args, tile);
  });
}

}  // namespace flexgen
