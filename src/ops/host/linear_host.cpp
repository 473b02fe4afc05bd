// Own matrix product on the host. Weights are read where they lie, in their own dtype; sums are float32.
//
// A token's result has the same bits whatever other tokens are in the call: sums run over blocks of inputs, and
// in a block in the order that HostKernels::dots fixes.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "ops/element_access.hpp"
#include "ops/host/host_kernels.hpp"
#include "ops/host/host_ops.hpp"
#include "ops/host/scratch.hpp"
#include "ops/host_scratch.hpp"
#include "ops/parallel_for.hpp"

namespace flexgen {
namespace {

constexpr std::int64_t kDepthBytes = 2048;  // of a token of x in a block: kStreamTokens, 16 KiB, stay in the L1 cache
constexpr std::int64_t kBlockTokens = 192;  // x block: 384 KiB of L2
constexpr std::int64_t kStreamTokens = 8;   // up to here the weights' bandwidth binds
constexpr std::int64_t kMaxStreamOutputs = 768;
constexpr std::int64_t kWidenTokens = 24;  // from here on widening a panel of weights once pays

constexpr int kPanelsAhead = 2;                  // fetched before they are computed with: 12 or 16 KiB
constexpr std::int64_t kCachedBytes = 16 << 10;  // of x that the L1 cache holds on to
constexpr std::int64_t kGroupPanels = 32;        // panels that a block of x meets before the next block takes its place

// What a tile takes of its thread: sums; for many tokens also a block of x, and a panel of weights widened.
std::int64_t stream_tile_floats(std::int64_t tokens, std::int64_t outputs) { return tokens * outputs; }
std::int64_t block_tile_floats(std::int64_t tokens, std::int64_t outputs, std::int64_t block_inputs) {
  return tokens * (outputs + block_inputs) + host_kernels().panel_rows * block_inputs;
}
// To finish it: bias and residual widened.
std::int64_t finish_floats(std::int64_t outputs) { return 2 * outputs; }
// What the calling thread takes of few tokens, for all to read.
std::int64_t packed_floats(std::int64_t tokens, std::int64_t in) { return tokens * in; }

std::int64_t most_outputs_of_block_tile() { return 16 * host_kernels().panel_rows; }

struct Tile {
  std::int64_t first_token, num_tokens, first_output, num_outputs;
};

/// sums [num_tokens, num_outputs] -> out: bias, activation, residual, one rounding.
void finish(const LinearArgs& args, const Tile& tile, float* sums) {
  const HostKernels& kernels = host_kernels();
  const std::int64_t count = tile.num_outputs;
  ScratchFrame scratch;
  float* bias = scratch.floats(finish_floats(count));
  float* wide_residual = bias + count;
  const auto place = [&](const std::byte* row, DType dtype) {
    return row + static_cast<std::uint64_t>(tile.first_output) * element_bytes(dtype);
  };
  if (args.bias) kernels.to_float(place(args.bias->data, args.bias->dtype), args.bias->dtype, bias, count);
  for (std::int64_t i = 0; i < tile.num_tokens; ++i) {
    float* row = sums + i * count;
    if (args.bias) kernels.add(row, bias, row, count);
    if (args.activation == Activation::relu) {
      for (std::int64_t j = 0; j < count; ++j) row[j] = row[j] < 0.0F ? 0.0F : row[j];
    } else if (args.activation == Activation::gelu) {
      for (std::int64_t j = 0; j < count; ++j) row[j] = 0.5F * row[j] * (1.0F + std::erf(row[j] * 0.70710678F));
    }
    if (args.residual) {
      const std::byte* residual = args.residual->row(tile.first_token + i);
      kernels.to_float(place(residual, args.residual->dtype), args.residual->dtype, wide_residual, count);
      kernels.add(row, wide_residual, row, count);
    }
    std::byte* out = args.out.row(tile.first_token + i);
    kernels.from_float(row, out + static_cast<std::uint64_t>(tile.first_output) * element_bytes(args.out.dtype),
                       args.out.dtype, count);
  }
}

/// The dtype in which x meets the weights: float32, or bfloat16 as it is where the processor multiplies that.
DType operand_dtype(DType x) {
  return x == DType::bfloat16 && host_kernels().multiplies_bfloat16 ? DType::bfloat16 : DType::float32;
}

/// Inputs per block of sums: a property of the dtypes, so that sums run in one order whatever the tile.
std::int64_t block_depth(DType operand) { return kDepthBytes / static_cast<std::int64_t>(element_bytes(operand)); }

/// x in blocks of inputs, [block][token][input]: a block lies in one piece, so that it shares the sets of the
/// L1 cache evenly with the weights that pass by.
struct Blocks {
  std::byte* data;
  DType dtype;
  std::int64_t tokens, in;

  std::int64_t bytes() const { return tokens * in * static_cast<std::int64_t>(element_bytes(dtype)); }
  std::int64_t depth(std::int64_t k) const { return std::min(block_depth(dtype), in - k); }
  std::byte* at(std::int64_t k) const { return data + tokens * k * static_cast<std::int64_t>(element_bytes(dtype)); }
};

/// Inputs first_input .. of x, as `dtype`, to rows of `depth` elements without gaps.
void pack(const MatrixView& x, std::int64_t first_input, std::int64_t depth, DType dtype, std::byte* to) {
  const std::uint64_t bytes = element_bytes(x.dtype),
                      row_bytes = static_cast<std::uint64_t>(depth) * element_bytes(dtype);
  for (std::int64_t i = 0; i < x.rows; ++i, to += row_bytes) {
    const std::byte* from = x.row(i) + static_cast<std::uint64_t>(first_input) * bytes;
    if (dtype == x.dtype) std::memcpy(to, from, row_bytes);
    else host_kernels().to_float(from, x.dtype, reinterpret_cast<float*>(to), depth);
  }
}

Blocks pack_blocks(const MatrixView& x, ScratchFrame& scratch) {
  const DType dtype = operand_dtype(x.dtype);
  if (x.rows == 1 && x.dtype == dtype) return {x.data, dtype, 1, x.cols};
  Blocks blocks{reinterpret_cast<std::byte*>(scratch.floats(packed_floats(x.rows, x.cols))), dtype, x.rows, x.cols};
  for (std::int64_t k = 0; k < x.cols; k += block_depth(dtype)) pack(x, k, blocks.depth(k), dtype, blocks.at(k));
  return blocks;
}

/// The panels of a tile in the order in which they are read: group by group, in a group block by block of inputs.
class PanelWalk {
 public:
  /// A panel to a group reads whole rows, front to back; several pay where x does not fit the L1 cache.
  PanelWalk(std::int64_t outputs, std::int64_t in, std::int64_t panel, std::int64_t depth, std::int64_t group_panels)
      : outputs_(outputs), in_(in), panel_(panel), depth_(depth), group_rows_(group_panels * panel) {}

  bool done() const { return group_ >= outputs_; }
  std::int64_t output() const { return output_; }
  std::int64_t num_outputs() const { return std::min(panel_, group_end() - output_); }
  std::int64_t input() const { return input_; }

  void advance() {
    output_ += panel_;
    if (output_ < group_end()) return;
    input_ += depth_;
    if (input_ >= in_) {
      input_ = 0;
      group_ += group_rows_;
    }
    output_ = group_;
  }

 private:
  std::int64_t group_end() const { return std::min(outputs_, group_ + group_rows_); }

  std::int64_t outputs_, in_, panel_, depth_, group_rows_;
  std::int64_t group_ = 0, output_ = 0, input_ = 0;
};

/// Few tokens: each weight is read once.
void stream_tile(const LinearArgs& args, const Blocks& x, const Tile& tile) {
  const HostKernels& kernels = host_kernels();
  ScratchFrame scratch;
  float* sums = scratch.floats(stream_tile_floats(tile.num_tokens, tile.num_outputs));
  const MatrixView weight = args.weight.row_range(tile.first_output, tile.num_outputs);
  const auto place = [&](const PanelWalk& walk) {
    return weight.row(walk.output()) + static_cast<std::uint64_t>(walk.input()) * element_bytes(weight.dtype);
  };
  DotsArgs dots;
  dots.a_dtype = x.dtype;
  dots.b_stride = weight.row_stride;
  dots.b_dtype = weight.dtype;
  dots.m = tile.num_tokens;
  dots.c_stride = tile.num_outputs;
  // Few enough tokens for the L1 cache to hold x: whole rows, front to back, are fastest.
  const bool whole_rows = x.bytes() <= kCachedBytes;
  const std::int64_t panel = kernels.stream_panel_rows(x.tokens);
  PanelWalk walk(tile.num_outputs, weight.cols, panel, block_depth(x.dtype), whole_rows ? 1 : kGroupPanels);
  PanelWalk ahead = walk;
  for (int i = 0; i < kPanelsAhead; ++i) ahead.advance();
  dots.next_in_one_piece = whole_rows && weight.contiguous();
  // What is fetched meanwhile; what there is already, at the end.
  const auto next = [&]() -> const std::byte* {
    if (!dots.next_in_one_piece) return ahead.done() ? dots.b : place(ahead);
    const std::int64_t first = (walk.output() + panel) * weight.cols + walk.input() * dots.n;
    if (first + dots.n * dots.k > weight.rows * weight.cols) return dots.b;
    return weight.data + static_cast<std::uint64_t>(first) * element_bytes(weight.dtype);
  };
  for (; !walk.done(); walk.advance(), ahead.advance()) {
    dots.n = walk.num_outputs();
    dots.k = dots.a_stride = x.depth(walk.input());
    dots.a = x.at(walk.input());
    dots.b = place(walk);
    dots.c = sums + walk.output();
    dots.accumulate = walk.input() > 0;
    dots.next = next();
    kernels.dots(dots);
  }
  finish(args, tile, sums);
}

/// Many tokens: a block of x stays in the L2 cache while panels of weights pass over it.
void block_tile(const LinearArgs& args, const Tile& tile) {
  const HostKernels& kernels = host_kernels();
  const std::int64_t in = args.x.cols;
  const MatrixView x = args.x.row_range(tile.first_token, tile.num_tokens);
  const std::uint64_t bytes = element_bytes(args.weight.dtype);
  DotsArgs dots;
  dots.a_dtype = operand_dtype(args.x.dtype);
  const std::int64_t block_inputs = std::min(block_depth(dots.a_dtype), in);
  const bool widen_panels = args.weight.dtype != dots.a_dtype && tile.num_tokens >= kWidenTokens;
  ScratchFrame scratch;
  float* sums = scratch.floats(block_tile_floats(tile.num_tokens, tile.num_outputs, block_inputs));
  float* block = sums + tile.num_tokens * tile.num_outputs;
  float* panel = block + tile.num_tokens * block_inputs;
  dots.a = block;
  dots.m = tile.num_tokens;
  dots.c_stride = tile.num_outputs;
  for (std::int64_t k = 0; k < in; k += block_inputs) {
    const std::int64_t depth = std::min(block_inputs, in - k);
    pack(x, k, depth, dots.a_dtype, reinterpret_cast<std::byte*>(block));
    dots.k = depth;
    dots.a_stride = depth;
    dots.accumulate = k > 0;
    for (std::int64_t j = 0; j < tile.num_outputs; j += kernels.panel_rows) {
      dots.n = std::min(kernels.panel_rows, tile.num_outputs - j);
      dots.c = sums + j;
      dots.b = args.weight.row(tile.first_output + j) + static_cast<std::uint64_t>(k) * bytes;
      dots.b_stride = args.weight.row_stride;
      dots.b_dtype = args.weight.dtype;
      if (widen_panels) {
        for (std::int64_t p = 0; p < dots.n; ++p)
          kernels.to_float(args.weight.row(tile.first_output + j + p) + static_cast<std::uint64_t>(k) * bytes,
                           args.weight.dtype, panel + p * depth, depth);
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
  const std::int64_t wanted = ((stream ? 8 : 4) * num_loop_threads() + token_tiles - 1) / token_tiles;
  const std::int64_t unit = stream ? host_kernels().stream_panel_rows(tokens) : 2 * host_kernels().panel_rows;
  const std::int64_t widest = stream ? kMaxStreamOutputs : most_outputs_of_block_tile();
  const std::int64_t width = std::clamp((outputs / wanted + unit - 1) / unit * unit, unit, widest);
  const std::int64_t output_tiles = (outputs + width - 1) / width;
  ScratchFrame scratch;
  const Blocks blocks = stream ? pack_blocks(args.x, scratch) : Blocks{};
  const bool worth_threads = tokens * outputs * args.x.cols > 200'000;
  parallel_for(token_tiles * output_tiles, worth_threads, [&](std::int64_t task) {
    Tile tile{};
    tile.first_token = task / output_tiles * block_tokens;
    tile.num_tokens = std::min(block_tokens, tokens - tile.first_token);
    tile.first_output = task % output_tiles * width;
    tile.num_outputs = std::min(width, outputs - tile.first_output);
    stream ? stream_tile(args, blocks, tile) : block_tile(args, tile);
  });
}

std::uint64_t linear_scratch_bytes(const LinearSizes& most) {
  const std::int64_t few = std::min(most.tokens, kStreamTokens);
  const std::int64_t stream_outputs = std::min(most.outputs, kMaxStreamOutputs);
  std::uint64_t bytes = scratch_piece_bytes<float>(packed_floats(few, most.inputs)) +
                        scratch_piece_bytes<float>(stream_tile_floats(few, stream_outputs)) +
                        scratch_piece_bytes<float>(finish_floats(stream_outputs));
  if (most.tokens > kStreamTokens) {
    const std::int64_t outputs = std::min(most.outputs, most_outputs_of_block_tile());
    const std::int64_t block_inputs = std::min(block_depth(operand_dtype(most.dtype)), most.inputs);
    const std::int64_t floats = block_tile_floats(std::min(most.tokens, kBlockTokens), outputs, block_inputs);
    bytes = std::max(bytes, scratch_piece_bytes<float>(floats) + scratch_piece_bytes<float>(finish_floats(outputs)));
  }
  return bytes + (most.compressed ? linear_compressed_scratch_bytes(most) : 0);
}

}  // namespace flexgen
