// Matrix products of few tokens: the weights are read once, at memory speed, straight into tensor-core fragments.
//
//   x [tokens <= 16, in], weight [out, in] -> out [tokens, out], float32 sums
//
// A block takes kBlockOutputs rows of weights; its warps take units of kUnit inputs in turn, so that a block reads
// long runs of each row, and meet in shared memory at the end. A lane fetches 16 contiguous bytes of a row: these are
// not the inputs that the fragment layout (cuda_tensor_core.cuh) names, but x is read in the same order, and a sum
// does not care which input is called which.
// Weights come through a ring of kStages units in shared memory, filled by asynchronous copies. Each lane fetches what
// it will itself use, so the ring needs no barriers; it is there to have far more bytes under way than registers could
// hold. Its first filling is under way before the kernel waits for its predecessor, which does not write weights: the
// memory works on while norms and appends, which move little, run.
// One block per multiprocessor: for weights of so few outputs that each gets at most one. There cuBLASLt leaves half of
// the memory's speed unused; of larger ones it reads as fast as this (benchmark/results/gpu/linear_h200.txt).

#include "ops/cuda/cuda_dependency.cuh"
#include "ops/cuda/cuda_kernels.hpp"
#include "ops/cuda/cuda_tensor_core.cuh"
#include "ops/cuda/linear/block_sums.cuh"
#include "ops/cuda/linear/epilogue.cuh"

namespace flexgen {
namespace {

constexpr int kBlockOutputs = 32;  // two fragments of 16
constexpr int kUnit = 64;          // inputs that a warp takes at a time: 128 bytes of each row
constexpr int kChunks = kUnit / 32;
constexpr int kFragmentRows = kBlockOutputs / 8;  // weight rows that a lane fetches from
constexpr int kStages = 3;
constexpr int kMaxTiles = 2;
constexpr int kWarps = 16;
constexpr int kThreads = kWarps * 32;
constexpr int kRingBytes = kStages * kThreads * kFragmentRows * kChunks * 16;

struct FewTokensParams {
  const std::byte* weight;
  const std::byte* x;
  std::int64_t weight_stride_bytes;
  std::int64_t x_stride_bytes;
  int tokens;
  int outputs;
  int units;  // inputs / kUnit
  Epilogue epilogue;
};

/// One lane's part of the ring.
struct Ring {
  uint4* own;  // [kStages][kFragmentRows][kChunks], a warp's lanes side by side
  const std::byte* row[kFragmentRows];

  __device__ uint4* at(int stage, int r, int c) const { return own + ((stage * kFragmentRows + r) * kChunks + c) * 32; }
  __device__ void fetch(int stage, int unit, int units) const {
    if (unit < units) {
#pragma unroll
      for (int r = 0; r < kFragmentRows; ++r) {
#pragma unroll
        for (int c = 0; c < kChunks; ++c) copy_16_async(at(stage, r, c), row[r] + (unit * kChunks + c) * 64);
      }
    }
    commit_copies();  // an empty group, too: groups are counted
  }
};

template <typename T, int kTiles>
__device__ inline void multiply_unit(float (&sum)[kFragmentRows / 2][kTiles][4],
                                     const uint4 (&weight)[kFragmentRows][kChunks],
                                     const std::byte* const (&x_row)[kTiles], int unit) {
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      const uint4 x = *reinterpret_cast<const uint4*>(x_row[j] + (unit * kChunks + c) * 64);
#pragma unroll
      for (int m = 0; m < kFragmentRows / 2; ++m) {
        const uint4& low = weight[2 * m][c];
        const uint4& high = weight[2 * m + 1][c];
        const std::uint32_t first[4] = {low.x, high.x, low.y, high.y};
        const std::uint32_t second[4] = {low.z, high.z, low.w, high.w};
        multiply_add<T>(sum[m][j], first, x.x, x.y);
        multiply_add<T>(sum[m][j], second, x.z, x.w);
      }
    }
  }
}

/// Grid (outputs / kBlockOutputs), kRingBytes of shared memory. All rows of x and weight start on 16-byte
/// boundaries.
template <typename T, int kTiles>
__global__ void __launch_bounds__(kThreads) few_tokens_kernel(const FewTokensParams p) {
  static_assert(kWarps * kTiles * kTokensPerTile * (kBlockOutputs + 1) * sizeof(float) <= kRingBytes);
  extern __shared__ uint4 shared[];
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int group = lane / 4;
  const int first_output = blockIdx.x * kBlockOutputs;

  Ring ring;
  ring.own = shared + warp * (kStages * kFragmentRows * kChunks * 32) + lane;
#pragma unroll
  for (int r = 0; r < kFragmentRows; ++r) {  // past the end: the last row once more, whose sums are thrown away
    const int output = min(first_output + group + 8 * r, p.outputs - 1);
    ring.row[r] = p.weight + output * p.weight_stride_bytes + lane % 4 * 16;
  }
#pragma unroll
  for (int s = 0; s < kStages; ++s) ring.fetch(s, warp + s * kWarps, p.units);
  const std::byte* x_row[kTiles];
#pragma unroll
  for (int j = 0; j < kTiles; ++j)
    x_row[j] = p.x + min(group + kTokensPerTile * j, p.tokens - 1) * p.x_stride_bytes + lane % 4 * 16;
  start_dependents_after_predecessor();

  float sum[kFragmentRows / 2][kTiles][4] = {};
  int stage = 0;
#pragma unroll 1
  for (int unit = warp; unit < p.units; unit += kWarps) {
    wait_for_copies<kStages - 1>();
    uint4 weight[kFragmentRows][kChunks];
#pragma unroll
    for (int r = 0; r < kFragmentRows; ++r) {
#pragma unroll
      for (int c = 0; c < kChunks; ++c) weight[r][c] = *ring.at(stage, r, c);
    }
    ring.fetch(stage, unit + kStages * kWarps, p.units);
    multiply_unit<T, kTiles>(sum, weight, x_row, unit);
    stage = stage + 1 == kStages ? 0 : stage + 1;
  }

  finish_block_sums<kWarps>(p, sum, reinterpret_cast<float*>(shared));
}

template <typename T, int kTiles>
void launch(const OpContext& context, const FewTokensParams& p) {
  auto* kernel = few_tokens_kernel<T, kTiles>;
  static OncePerDevice allow;
  allow(context.device, [&] {
    FLEXGEN_CUDA_CALL(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kRingBytes));
  });
  const dim3 grid(grid_extent((p.outputs + kBlockOutputs - 1) / kBlockOutputs));
  launch_dependent(context, kernel, grid, kThreads, p, "launch of few_tokens_kernel", kRingBytes);
}

}  // namespace

bool linear_few_tokens_takes(const OpContext& context, const LinearArgs& args) {
  if (args.x.rows > kMaxTiles * kTokensPerTile || args.x.cols % kUnit != 0) return false;
  if (!rows_aligned(args.x) || !rows_aligned(args.weight)) return false;
  if (args.x.dtype == DType::float32 || !has_asynchronous_copies(context.device)) return false;
  return args.weight.rows <= static_cast<std::int64_t>(num_multiprocessors(context.device)) * kBlockOutputs &&
         max_shared_bytes(context.device) >= kRingBytes;
}

void linear_few_tokens_cuda(const OpContext& context, const LinearArgs& args) {
  FewTokensParams p{};
  p.weight = args.weight.data;
  p.x = args.x.data;
  p.weight_stride_bytes = args.weight.row_stride * static_cast<std::int64_t>(element_bytes(args.weight.dtype));
  p.x_stride_bytes = args.x.row_stride * static_cast<std::int64_t>(element_bytes(args.x.dtype));
  p.tokens = static_cast<int>(args.x.rows);
  p.outputs = static_cast<int>(args.weight.rows);
  p.units = static_cast<int>(args.x.cols / kUnit);
  p.epilogue = epilogue_of(args);
  with_element_type(args.x.dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    if constexpr (sizeof(T) == 2) {
      if (p.tokens <= kTokensPerTile) launch<T, 1>(context, p);
      else launch<T, kMaxTiles>(context, p);
    }
  });
}

}  // namespace flexgen
