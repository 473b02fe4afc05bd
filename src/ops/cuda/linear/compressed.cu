// Matrix products of few tokens with compressed weights: codes are read once, at memory speed, and become tensor-core
// fragments in registers.
//
//   x [tokens <= 32, in], weight [out, in] of 4 or 8 bits -> out [tokens, out], float32 sums
//
// As in few_tokens.cu: a block takes 16 * kFragments rows of weights, its warps take units of inputs in turn and
// meet in shared memory at the end; each lane fetches by asynchronous copies, into a ring, what it will itself use, and
// the first filling is under way before the kernel waits for its predecessor, which does not write weights.
// Of a unit, a lane has 16 bytes of codes of each of its rows, all of one group, and that group's parameters. Weights
// are rounded to the element type before the product, to what dequantize_rows makes of them.

#include "ops/cuda/attention/compressed.hpp"
#include "ops/cuda/compressed_elements.cuh"
#include "ops/cuda/cuda_dependency.cuh"
#include "ops/cuda/cuda_kernels.hpp"
#include "ops/cuda/cuda_tensor_core.cuh"
#include "ops/cuda/linear/block_sums.cuh"
#include "ops/cuda/linear/epilogue.cuh"

namespace flexgen {
namespace {

constexpr int kMaxTiles = 4;
constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;

struct CompressedLinearParams {
  const std::byte* weight;
  const std::byte* x;
  std::int64_t weight_stride_bytes;
  std::int64_t x_stride_bytes;
  std::int64_t parameter_offset;
  int tokens;
  int outputs;
  int units;  // inputs / kUnit
  int group_shift;
  Epilogue epilogue;
};

/// One lane's part of the ring: codes of kRows rows, then their parameters, a warp's lanes side by side. kShort: half
/// the stages, for GPUs that give a block 64 KiB (sm_75) and copy while they wait.
template <int kBits, int kFragments, bool kShort>
struct Ring {
  static constexpr int kRows = 2 * kFragments;  // weight rows that a lane fetches from
  static constexpr int kStages = (kFragments <= 2 ? 4 : 2) / (kShort ? 2 : 1);
  static constexpr int kLaneCodes = 128 / kBits;
  static constexpr int kUnit = 4 * kLaneCodes;  // inputs that a warp takes at a time
  static constexpr int kStageBytes = kRows * 32 * 20;
  static constexpr int kBlockBytes = kStages * kStageBytes * kWarps;

  std::byte* own;
  const std::byte* row;  // this lane's first one; the others follow at row_step bytes
  std::int64_t row_step;
  int rows_left;  // that there are, the first one included; zeros stand for the others
  int parameter_offset;
  int lane;
  int group_shift;

  __device__ uint4* codes(int stage, int r) const {
    return reinterpret_cast<uint4*>(own + stage * kStageBytes) + r * 32 + lane;
  }
  __device__ std::uint32_t* line(int stage, int r) const {
    return reinterpret_cast<std::uint32_t*>(own + stage * kStageBytes + kRows * 512) + r * 32 + lane;
  }
  __device__ void fetch(int stage, int unit, int units) const {
    if (unit < units) {
      const int group = (unit * kUnit + lane % 4 * kLaneCodes) >> group_shift;
      const std::byte* from = row + unit * 64 + lane % 4 * 16;
      const std::byte* parameters = row + parameter_offset + group * 4;
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        copy_16_async(codes(stage, r), from + r * row_step, r < rows_left);
        copy_small_async<4>(line(stage, r), parameters + r * row_step, r < rows_left);
      }
    }
    commit_copies();  // an empty group, too: groups are counted
  }
};

/// Eight weights from their codes, as pairs of T.
template <typename T, int kBits>
__device__ inline void weights_of(const EightCodes<kBits>& codes, std::uint32_t line, std::uint32_t (&weight)[4]) {
  constexpr int kPairs = kWordCodes<kBits> / 2;
#pragma unroll
  for (int w = 0; w < kBits / 4; ++w) {
    std::uint32_t pair[kPairs];
    unpack_codes<kBits, false>(codes.word[w], pair);
#pragma unroll
    for (int i = 0; i < kPairs; ++i) weight[w * kPairs + i] = dequantized_pair<T>(pair[i], line);
  }
}

template <int kBits>
__device__ inline EightCodes<kBits> piece_of(const uint4& codes, int piece) {
  const std::uint32_t word[4] = {codes.x, codes.y, codes.z, codes.w};
  EightCodes<kBits> eight;
#pragma unroll
  for (int w = 0; w < kBits / 4; ++w) eight.word[w] = word[piece * (kBits / 4) + w];
  return eight;
}

template <int kTiles>
__device__ inline void load_x(uint4 (&x)[kTiles], const std::byte* const (&row)[kTiles], int piece) {
#pragma unroll
  for (int j = 0; j < kTiles; ++j) x[j] = reinterpret_cast<const uint4*>(row[j])[piece];
}

/// Adds the products of a lane's eight inputs, piece `piece` of its codes, to its sums.
template <typename T, int kBits, int kFragments, int kTiles>
__device__ inline void multiply_piece(float (&sum)[kFragments][kTiles][4], const uint4 (&codes)[2 * kFragments],
                                      const std::uint32_t (&line)[2 * kFragments], const uint4 (&x)[kTiles],
                                      int piece) {
#pragma unroll
  for (int m = 0; m < kFragments; ++m) {
    std::uint32_t low[4], high[4];
    weights_of<T>(piece_of<kBits>(codes[2 * m], piece), line[2 * m], low);
    weights_of<T>(piece_of<kBits>(codes[2 * m + 1], piece), line[2 * m + 1], high);
    const std::uint32_t first[4] = {low[0], high[0], low[1], high[1]};
    const std::uint32_t second[4] = {low[2], high[2], low[3], high[3]};
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      multiply_add<T>(sum[m][j], first, x[j].x, x[j].y);
      multiply_add<T>(sum[m][j], second, x[j].z, x[j].w);
    }
  }
}

/// Grid (outputs / (16 * kFragments)), Ring::kBlockBytes of shared memory. All rows of x and weight start on 16-byte
/// boundaries.
template <typename T, int kBits, int kFragments, int kTiles, bool kShort>
__global__ void __launch_bounds__(kThreads, 2) compressed_linear_kernel(const CompressedLinearParams p) {
  using Ring = Ring<kBits, kFragments, kShort>;
  constexpr int kPieces = Ring::kLaneCodes / 8;
  static_assert(kWarps * kTiles * kTokensPerTile * (16 * kFragments + 1) * 4 <= Ring::kBlockBytes);
  extern __shared__ uint4 shared[];
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;

  Ring ring;
  ring.own = reinterpret_cast<std::byte*>(shared) + warp * Ring::kStages * Ring::kStageBytes;
  ring.lane = lane;
  ring.group_shift = p.group_shift;
  const int output = static_cast<int>(blockIdx.x) * 16 * kFragments + lane / 4;
  ring.row = p.weight + output * p.weight_stride_bytes;
  ring.row_step = 8 * p.weight_stride_bytes;
  ring.rows_left = (p.outputs - output + 7) / 8;
  ring.parameter_offset = static_cast<int>(p.parameter_offset);
#pragma unroll
  for (int s = 0; s < Ring::kStages; ++s) ring.fetch(s, warp + s * kWarps, p.units);
  start_dependents_after_predecessor();

  const std::byte* x_row[kTiles];  // this lane's inputs of the unit at hand
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
    const int token = min(lane / 4 + kTokensPerTile * j, p.tokens - 1);
    x_row[j] = p.x + token * p.x_stride_bytes + (warp * Ring::kUnit + lane % 4 * Ring::kLaneCodes) * 2;
  }
  float sum[kFragments][kTiles][4] = {};
  uint4 x[2][kTiles];  // the next eight inputs are under way while these are used
  if (warp < p.units) load_x(x[0], x_row, 0);
  int stage = 0;
#pragma unroll 1
  for (int unit = warp; unit < p.units; unit += kWarps) {
    wait_for_copies<Ring::kStages - 1>();
    uint4 codes[Ring::kRows];
    std::uint32_t line[Ring::kRows];
#pragma unroll
    for (int r = 0; r < Ring::kRows; ++r) codes[r] = *ring.codes(stage, r), line[r] = *ring.line(stage, r);
    ring.fetch(stage, unit + Ring::kStages * kWarps, p.units);
#pragma unroll
    for (int c = 0; c < kPieces; ++c) {
      if (c + 1 < kPieces) {
        load_x(x[(c + 1) % 2], x_row, c + 1);
      } else if (unit + kWarps < p.units) {
#pragma unroll
        for (int j = 0; j < kTiles; ++j) x_row[j] += kWarps * Ring::kUnit * 2;
        load_x(x[(c + 1) % 2], x_row, 0);
      }
      multiply_piece<T, kBits>(sum, codes, line, x[c % 2], c);
    }
    stage = stage + 1 == Ring::kStages ? 0 : stage + 1;
  }
  finish_block_sums<kWarps>(p, sum, reinterpret_cast<float*>(shared));
}

template <typename T, int kBits, int kFragments, int kTiles, bool kShort>
void launch(const OpContext& context, const CompressedLinearParams& p) {
  constexpr int kSharedBytes = Ring<kBits, kFragments, kShort>::kBlockBytes;
  auto* kernel = compressed_linear_kernel<T, kBits, kFragments, kTiles, kShort>;
  static OncePerDevice allow;
  allow(context.device, [&] {
    FLEXGEN_CUDA_CALL(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes));
    // two blocks of shared memory; what is left holds x
    FLEXGEN_CUDA_CALL(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, 75));
  });
  const dim3 grid(grid_extent((p.outputs + 16 * kFragments - 1) / (16 * kFragments)));
  launch_dependent(context, kernel, grid, kThreads, p, "launch of compressed_linear_kernel", kSharedBytes);
}

/// Wide blocks read x less often, narrow ones are more: as many as there are multiprocessors, if possible.
template <typename T, int kBits, bool kShort>
void launch(const OpContext& context, const CompressedLinearParams& p) {
  const bool wide = p.outputs >= 64 * num_multiprocessors(context.device);
  if (p.tokens <= kTokensPerTile) {
    wide ? launch<T, kBits, 4, 1, kShort>(context, p) : launch<T, kBits, 2, 1, kShort>(context, p);
  } else if (p.tokens <= 2 * kTokensPerTile) {
    wide ? launch<T, kBits, 4, 2, kShort>(context, p) : launch<T, kBits, 2, 2, kShort>(context, p);
  } else {
    launch<T, kBits, 2, kMaxTiles, kShort>(context, p);
  }
}

}  // namespace

bool linear_compressed_takes(const OpContext& context, const LinearArgs& args) {
  if (args.x.rows > kMaxTiles * kTokensPerTile || args.x.dtype == DType::float32) return false;
  const QuantFormat& quant = args.weight.quant;
  if (args.x.cols % (512 / quant.bits) != 0 || !rows_aligned(args.x)) return false;
  if (!stored_rows_aligned(args.weight)) return false;
  static_assert(Ring<4, 2, false>::kBlockBytes >= Ring<4, 4, false>::kBlockBytes);
  static_assert(Ring<4, 2, true>::kBlockBytes >= Ring<4, 4, true>::kBlockBytes);
  if (!has_asynchronous_copies(context.device)) {  // there bfloat16 has no tensor cores either
    return args.x.dtype == DType::float16 && max_shared_bytes(context.device) >= Ring<4, 2, true>::kBlockBytes;
  }
  return max_shared_bytes(context.device) >= Ring<4, 2, false>::kBlockBytes;
}

void linear_compressed_cuda(const OpContext& context, const LinearArgs& args) {
  CompressedLinearParams p{};
  const QuantFormat& quant = args.weight.quant;
  p.weight = args.weight.data;
  p.x = args.x.data;
  p.weight_stride_bytes = args.weight.row_stride;
  p.x_stride_bytes = args.x.row_stride * static_cast<std::int64_t>(element_bytes(args.x.dtype));
  p.parameter_offset = quant.row_parameter_offset(args.weight.cols);
  p.tokens = static_cast<int>(args.x.rows);
  p.outputs = static_cast<int>(args.weight.rows);
  p.units = static_cast<int>(args.x.cols / (512 / quant.bits));
  p.group_shift = group_shift_of(quant);
  p.epilogue = epilogue_of(args);
  with_element_type(args.x.dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    if constexpr (sizeof(T) == 2) {
      if (std::is_same_v<T, __half> && !has_asynchronous_copies(context.device)) {
        quant.bits == 4 ? launch<__half, 4, true>(context, p) : launch<__half, 8, true>(context, p);
      } else {
        quant.bits == 4 ? launch<T, 4, false>(context, p) : launch<T, 8, false>(context, p);
      }
    }
  });
}

}  // namespace flexgen
