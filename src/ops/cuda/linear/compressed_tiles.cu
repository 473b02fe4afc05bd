// Matrix products of some dozens of tokens with compressed weights on sm_90: codes become operands of warpgroup
// products in registers, so that dequantized weights exist nowhere in memory.
//
//   x [16 < tokens <= 512, in], weight [out, in] of 4 or 8 bits -> out [tokens, out], float32 sums
//
// A block has four warpgroups and takes 256 rows of weights and kTokens tokens: so many rows, because every block reads
// all of x from the L2 cache. Inputs come 128 at a time through a ring in shared memory, by copies of whole tiles: x in
// the swizzled form that the product reads by itself, codes swizzled so that rows read together lie in other banks.
// A lane dequantizes the weights of its two rows while the product before is under way. Where there are too few blocks
// for the GPU, a cluster shares the inputs and adds up through its shared memories, in order of the blocks: sums do not
// depend on who comes first. Weights are rounded to the element type before the product, to what dequantize_rows makes
// of them.
// Source: PTX ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Instructions".
#include <cooperative_groups.h>

#include <algorithm>

#include "ops/cuda/compressed_elements.cuh"
#include "ops/cuda/cuda_dependency.cuh"
#include "ops/cuda/cuda_tensor_core.cuh"
#include "ops/cuda/linear/compressed_tiles.hpp"
#include "ops/cuda/linear/epilogue.cuh"
#include "ops/cuda/linear/tensor_copy.cuh"
#include "ops/cuda/linear/warpgroup.cuh"

namespace flexgen {
namespace {

constexpr int kRows = 256;       // of weights, of a block
constexpr int kInputs = 128;     // of a stage
constexpr int kTileInputs = 64;  // of a tile of x: 128 bytes, the width of its swizzle
constexpr int kSteps = kInputs / 16;
constexpr int kLines = 4;  // parameters of a row that are copied: 16 bytes, from a multiple of 16, is the least
constexpr int kThreads = 512;
constexpr int kPitch = kRows + 4;           // of sums in shared memory: a lane's neighbours lie in other banks
constexpr int kMostBlocks = 8;              // of a cluster, on any GPU
constexpr std::int64_t kFewestTokens = 17;  // fewer: compressed.cu
constexpr std::int64_t kMostTokens = 512;

struct CompressedTilesParams {
  CUtensorMap x, codes, lines;  // first: they lie on boundaries of 64 bytes
  int tokens;
  int outputs;
  int units;  // inputs / kInputs
  int group_shift;
  Epilogue epilogue;
};

/// The ring: stages of x, codes and parameters.
template <int kBits, int kTokens>
struct Ring {
  static constexpr int kTileBytes = kTokens * kTileInputs * 2;
  static constexpr int kXBytes = kTokens * kInputs * 2;
  static constexpr int kRowBytes = kInputs * kBits / 8;
  static constexpr int kCodeBytes = kRows * kRowBytes;
  static constexpr int kStageBytes = kXBytes + kCodeBytes + kRows * kLines * 4;
  static constexpr int kStages = std::min(6, 220 * 1024 / kStageBytes);
  static constexpr int kAhead = kStages - 2;  // a stage is filled again when the product after its own has ended
  static constexpr int kBytes = kStages * kStageBytes + kStages * 8;  // the barriers come last
  static_assert(kAhead >= 1 && kStageBytes % 1024 == 0, "swizzled rows come in eights of 128 bytes");
  static_assert(kTokens * kPitch * 4 <= kBytes, "sums take the ring's place");

  std::byte* shared;
  const CompressedTilesParams& p;
  int first_row;
  int first_token;

  __device__ std::byte* x(int stage) const { return shared + stage * kStageBytes; }
  __device__ std::byte* codes(int stage) const { return x(stage) + kXBytes; }
  __device__ std::uint32_t* lines(int stage) const {
    return reinterpret_cast<std::uint32_t*>(codes(stage) + kCodeBytes);
  }
  __device__ ArrivalBarrier& arrival(int stage) const {
    return reinterpret_cast<ArrivalBarrier*>(shared + kStages * kStageBytes)[stage];
  }

  /// As swizzled copies place a row's 16-byte chunks.
  static __device__ int chunk_place(int row, int chunk) { return chunk ^ (kBits == 4 ? row / 2 % 4 : row % 8); }

  /// By one thread.
  __device__ void fetch_weights(int stage, int unit) const {
    arrival(stage).expect(kStageBytes);
    copy_tile_async(codes(stage), p.codes, first_row, unit * kRowBytes, arrival(stage));
    copy_tile_async(lines(stage), p.lines, first_row, (unit * kInputs >> p.group_shift) / kLines * kLines,
                    arrival(stage));
  }

  /// By the same thread, after the weights.
  __device__ void fetch_x(int stage, int unit) const {
#pragma unroll
    for (int tile = 0; tile < kInputs / kTileInputs; ++tile)
      copy_tile_async(x(stage) + tile * kTileBytes, p.x, first_token, unit * kInputs + tile * kTileInputs,
                      arrival(stage));
  }
};

/// The codes of one row of which this lane needs some in two steps: 4 bits 32 inputs, 8 bits the words it takes from.
template <int kBits>
__device__ inline uint4 load_codes(const std::byte* row, int row_index, int pair) {
  using Ring = Ring<kBits, 64>;
  if constexpr (kBits == 4) {
    return *reinterpret_cast<const uint4*>(row + Ring::chunk_place(row_index, pair) * 16);
  } else {
    const std::byte* word = row + threadIdx.x % 4 / 2 * 4;
    const auto* even = reinterpret_cast<const std::uint32_t*>(word + Ring::chunk_place(row_index, 2 * pair) * 16);
    const auto* odd = reinterpret_cast<const std::uint32_t*>(word + Ring::chunk_place(row_index, 2 * pair + 1) * 16);
    return make_uint4(even[0], even[2], odd[0], odd[2]);
  }
}

/// What this lane multiplies in a step, in exact halves: inputs 2t, 2t + 1 and 2t + 8, 2t + 9, t = lane % 4.
template <int kBits>
__device__ inline void codes_of(const uint4& loaded, int odd, std::uint32_t (&pair)[2]) {
  constexpr std::uint32_t kMinus1024 = 0xe400e400U;
  const int t = threadIdx.x % 4;
  const std::uint32_t words[2] = {odd ? loaded.z : loaded.x, odd ? loaded.w : loaded.y};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const std::uint32_t codes = kBits == 4 ? masked_or(words[i] >> (4 * t), 0x000f000fU, 0x64006400U)
                                           : __byte_perm(words[i], 0x64646464U, t % 2 == 0 ? 0x4140 : 0x4342);
    pair[i] = bits_of(__hadd2(half2_of(codes), half2_of(kMinus1024)));
  }
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
/// The products of one stage, whose inputs are number `unit` of all. `weights`: operands, of which the product under
/// way reads one half.
template <typename T, int kBits, int kTokens>
__device__ inline void multiply_stage(const Ring<kBits, kTokens>& ring, int stage, int unit, bool accumulate, int row,
                                      float (&sum)[kTokens / 2], std::uint32_t (&weights)[2][4]) {
  using Ring = Ring<kBits, kTokens>;
  const std::byte* low = ring.codes(stage) + row * Ring::kRowBytes;
  const std::byte* high = low + 8 * Ring::kRowBytes;
  const std::uint32_t* lines = ring.lines(stage) + row * kLines;
  std::uint32_t low_lines[kSteps / 2], high_lines[kSteps / 2];
#pragma unroll
  for (int pair = 0; pair < kSteps / 2; ++pair) {
    const int line = (unit * kInputs + 32 * pair >> ring.p.group_shift) % kLines;
    low_lines[pair] = lines[line], high_lines[pair] = lines[8 * kLines + line];
  }
  uint4 low_codes[2] = {load_codes<kBits>(low, row, 0)}, high_codes[2] = {load_codes<kBits>(high, row + 8, 0)};
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    const int pair = s / 2;
    if (s % 2 == 0 && s + 2 < kSteps) {  // under way while this pair's are used
      low_codes[(pair + 1) % 2] = load_codes<kBits>(low, row, pair + 1);
      high_codes[(pair + 1) % 2] = load_codes<kBits>(high, row + 8, pair + 1);
    }
    std::uint32_t low_pair[2], high_pair[2];
    codes_of<kBits>(low_codes[pair % 2], s % 2, low_pair);
    codes_of<kBits>(high_codes[pair % 2], s % 2, high_pair);
    std::uint32_t(&a)[4] = weights[s % 2];
    a[0] = dequantized_pair<T>(low_pair[0], low_lines[pair]);
    a[1] = dequantized_pair<T>(high_pair[0], high_lines[pair]);
    a[2] = dequantized_pair<T>(low_pair[1], low_lines[pair]);
    a[3] = dequantized_pair<T>(high_pair[1], high_lines[pair]);
    const std::uint64_t x = product_operand(ring.x(stage) + s / 4 * Ring::kTileBytes) + s % 4 * (32 >> 4);
    before_products();
    warpgroup_multiply_add<T>(sum, a, x, accumulate || s > 0);
    commit_products();
    wait_for_products<1>();  // the one that reads the other half of `weights`
  }
}

/// Adds up the sums of a cluster's `split` blocks, each of which has put its own into shared memory, and finishes this
/// block's share of them.
template <int kBits, int kTokens>
__device__ inline void finish_cluster(const Ring<kBits, kTokens>& ring, float* sums, int rank, int split) {
  const CompressedTilesParams& p = ring.p;
  const auto cluster = cooperative_groups::this_cluster();
  split > 1 ? cluster.sync() : __syncthreads();
  constexpr int kQuads = kRows / 4;
  constexpr int kTogether = kThreads / kQuads;
  const int first = ring.first_row + threadIdx.x % kQuads * 4;
  const int left = min(kTokens, p.tokens - ring.first_token);
  const float* peer[kMostBlocks];
#pragma unroll
  for (int r = 0; r < kMostBlocks; ++r) peer[r] = cluster.map_shared_rank(sums, min(r, split - 1));
  for (int token = rank * kTogether + threadIdx.x / kQuads; token < left; token += split * kTogether) {
    const int at = token * kPitch + threadIdx.x % kQuads * 4;
    float4 part[kMostBlocks];
#pragma unroll
    for (int r = 0; r < kMostBlocks; ++r) {
      if (r < split) part[r] = *reinterpret_cast<const float4*>(peer[r] + at);
    }
    float total[4] = {};
#pragma unroll
    for (int r = 0; r < kMostBlocks; ++r) {
      if (r < split) total[0] += part[r].x, total[1] += part[r].y, total[2] += part[r].z, total[3] += part[r].w;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (first + i < p.outputs) p.epilogue.finish(ring.first_token + token, first + i, total[i]);
    }
  }
  if (split > 1) cluster.sync();  // others may still read these sums
}
#endif

/// Grid (outputs / kRows, blocks of a cluster, tokens / kTokens), clusters along y, Ring::kBytes of shared memory.
template <typename T, int kBits, int kTokens>
__global__ void __launch_bounds__(kThreads, 1)
    compressed_tiles_kernel(const __grid_constant__ CompressedTilesParams p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using Ring = Ring<kBits, kTokens>;
  extern __shared__ __align__(1024) std::byte shared[];
  const int split = static_cast<int>(gridDim.y), rank = static_cast<int>(blockIdx.y);
  const int begin = p.units * rank / split;
  const int count = p.units * (rank + 1) / split - begin;
  const Ring ring{shared, p, static_cast<int>(blockIdx.x) * kRows, static_cast<int>(blockIdx.z) * kTokens};

  const bool copies = threadIdx.x == 0;
  if (copies) {
    for (int i = 0; i < Ring::kStages; ++i) ring.arrival(i).init();
    show_barriers();
    for (int i = 0; i < Ring::kAhead && i < count; ++i) ring.fetch_weights(i, begin + i);
  }
  start_dependents_after_predecessor();
  if (copies) {
    for (int i = 0; i < Ring::kAhead && i < count; ++i) ring.fetch_x(i, begin + i);
  }
  __syncthreads();

  const int lane = threadIdx.x % 32;
  const int row = threadIdx.x / 32 * 16 + lane / 4;  // and the one eight further
  float sum[kTokens / 2];
  std::uint32_t weights[2][4];
  int stage = 0, parity = 0, next = Ring::kAhead;
#pragma unroll 1
  for (int i = 0; i < count; ++i) {
    __syncthreads();  // all have ended the stage before the last
    if (copies && i + Ring::kAhead < count) {
      ring.fetch_weights(next, begin + i + Ring::kAhead);
      ring.fetch_x(next, begin + i + Ring::kAhead);
    }
    ring.arrival(stage).wait(parity);
    multiply_stage<T>(ring, stage, begin + i, i > 0, row, sum, weights);
    if (++stage == Ring::kStages) stage = 0, parity ^= 1;
    next = next + 1 == Ring::kStages ? 0 : next + 1;
  }
  wait_for_products<0>();
  __syncthreads();  // the ring is done with

  auto* sums = reinterpret_cast<float*>(shared);
#pragma unroll
  for (int j = 0; j < kTokens / 8; ++j) {
#pragma unroll
    for (int e = 0; e < 4; ++e) sums[(8 * j + lane % 4 * 2 + e % 2) * kPitch + row + e / 2 * 8] = sum[4 * j + e];
  }
  finish_cluster(ring, sums, rank, split);
#endif
}

/// Blocks that share a tile's inputs: so many that all tiles are done soonest, by rounds of what the GPU holds at a
/// time (clusters lie within a part of it, and parts differ in size) and what a block loses until its ring is full.
/// `held`: clusters of 1, 2 .. blocks that the GPU holds, zeros where not yet asked; races write the same values.
template <typename Kernel>
int cluster_blocks(Kernel* kernel, int shared_bytes, int (&held)[kMostBlocks], int tiles, int units) {
  constexpr double kUnitsLost = 5.0;
  int best = 1;
  double least = 0.0;
  for (int split = 1; split <= std::min(kMostBlocks, units); ++split) {
    int& clusters = held[split - 1];
    if (clusters == 0) {
      cudaLaunchAttribute attribute{};
      attribute.id = cudaLaunchAttributeClusterDimension;
      attribute.val.clusterDim = {1, static_cast<unsigned>(split), 1};
      cudaLaunchConfig_t config{};
      config.gridDim = dim3(1, split);
      config.blockDim = kThreads;
      config.dynamicSmemBytes = shared_bytes;
      config.attrs = &attribute;
      config.numAttrs = 1;
      FLEXGEN_CUDA_CALL(cudaOccupancyMaxActiveClusters(&clusters, kernel, &config));
      clusters = std::max(clusters, 1);
    }
    const int rounds = (tiles + clusters - 1) / clusters;
    const double cost = rounds * (static_cast<double>(units) / split + kUnitsLost);
    if (split == 1 || cost < least * 0.98) best = split, least = cost;
  }
  return best;
}

template <typename T, int kBits, int kTokens>
void launch(const OpContext& context, CompressedTilesParams p, const MatrixView& x, const MatrixView& weight) {
  constexpr int kSharedBytes = Ring<kBits, kTokens>::kBytes;
  auto* kernel = compressed_tiles_kernel<T, kBits, kTokens>;
  static OncePerDevice allow;
  allow(context.device, [&] {
    FLEXGEN_CUDA_CALL(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes));
  });
  const QuantFormat& quant = weight.quant;
  constexpr bool kHalf = std::is_same_v<T, __half>;
  p.x = describe_tiles({x.data, kHalf ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, x.rows,
                        x.cols, (x.rows > 1 ? x.row_stride : x.cols) * 2, kTokens, kTileInputs,
                        CU_TENSOR_MAP_SWIZZLE_128B});
  const std::int64_t stride = weight.rows > 1 ? weight.row_stride : quant.row_bytes(weight.cols);
  p.codes =
      describe_tiles({weight.data, CU_TENSOR_MAP_DATA_TYPE_UINT8, weight.rows, quant.code_bytes(weight.cols), stride,
                      kRows, kInputs * kBits / 8, kBits == 4 ? CU_TENSOR_MAP_SWIZZLE_64B : CU_TENSOR_MAP_SWIZZLE_128B});
  p.lines =
      describe_tiles({weight.data + quant.row_parameter_offset(weight.cols), CU_TENSOR_MAP_DATA_TYPE_UINT32,
                      weight.rows, quant.num_groups(weight.cols), stride, kRows, kLines, CU_TENSOR_MAP_SWIZZLE_NONE});
  const int tiles = (p.outputs + kRows - 1) / kRows, token_tiles = (p.tokens + kTokens - 1) / kTokens;
  static int held[64][kMostBlocks] = {};
  const auto split = static_cast<unsigned>(
      cluster_blocks(kernel, kSharedBytes, held[context.device.index % 64], tiles * token_tiles, p.units));
  const dim3 grid(grid_extent(tiles), split, static_cast<unsigned>(token_tiles));
  launch_dependent(context, kernel, grid, kThreads, p, "launch of compressed_tiles_kernel", kSharedBytes,
                   dim3(1, split, 1));
}

template <typename T, int kBits>
void launch(const OpContext& context, const CompressedTilesParams& p, const MatrixView& x, const MatrixView& weight) {
  p.tokens <= 64 ? launch<T, kBits, 64>(context, p, x, weight) : launch<T, kBits, 128>(context, p, x, weight);
}

}  // namespace

bool linear_compressed_tiles_takes(const OpContext& context, const LinearArgs& args) {
  if (args.x.rows < kFewestTokens || args.x.rows > kMostTokens || args.x.dtype == DType::float32) return false;
  if (args.x.cols % kInputs != 0 || !rows_aligned(args.x)) return false;
  if (!stored_rows_aligned(args.weight)) return false;
  return known_capability(context.device) == 90 && max_shared_bytes(context.device) >= Ring<8, 64>::kBytes;
}

void linear_compressed_tiles_cuda(const OpContext& context, const LinearArgs& args) {
  CompressedTilesParams p{};
  const QuantFormat& quant = args.weight.quant;
  p.tokens = static_cast<int>(args.x.rows);
  p.outputs = static_cast<int>(args.weight.rows);
  p.units = static_cast<int>(args.x.cols / kInputs);
  p.group_shift = group_shift_of(quant);
  p.epilogue = epilogue_of(args);
  with_element_type(args.x.dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    if constexpr (sizeof(T) == 2) {
      if (quant.bits == 4) launch<T, 4>(context, p, args.x, args.weight);
      else launch<T, 8>(context, p, args.x, args.weight);
    }
  });
}

}  // namespace flexgen
