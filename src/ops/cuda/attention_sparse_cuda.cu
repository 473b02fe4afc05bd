// Sparse attention of single tokens: all scores, then the values of the heaviest positions alone.
//
// One block per (row, head). Which positions are chosen: the weights are positive, so their order is that of their
// bits; the k-th largest is found bit by bit, by counting. Of equal weights the lower positions are taken. Plain and
// compressed caches, any dtype and alignment. Source: FlexGen (Sheng et al. 2023), section 4.2.
#include <algorithm>

#include "ops/cuda/attention_plain.cuh"
#include "ops/cuda/attention_sparse.hpp"
#include "ops/cuda/cuda_launch.cuh"

namespace flexgen {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

/// Shared memory: one weight per position, and one sum of values per warp.
std::uint64_t shared_bytes(int longest, int head_dim) {
  return (static_cast<std::uint64_t>(longest) + static_cast<std::uint64_t>(kWarps + 1) * head_dim) * sizeof(float);
}

__device__ int block_count(int mine, int* scratch) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) mine += __shfl_xor_sync(0xffffffffU, mine, offset);
  __syncthreads();
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = mine;
  __syncthreads();
  int total = 0;
  for (int w = 0; w < kWarps; ++w) total += scratch[w];
  return total;
}

/// Zeroes all but the `chosen` largest of weight[0 .. count), ties to the lower position.
__device__ void keep_largest(float* weight, int count, int chosen, int* scratch) {
  if (chosen >= count) return;
  const auto bits = [&](int p) { return __float_as_uint(weight[p]); };
  std::uint32_t limit = 0;  // the chosen-th largest
  for (int bit = 30; bit >= 0 && chosen > 0; --bit) {
    const std::uint32_t trial = limit | 1U << bit;
    int mine = 0;
    for (int p = threadIdx.x; p < count; p += kThreads) mine += bits(p) >= trial;
    if (block_count(mine, scratch) >= chosen) limit = trial;
  }
  int above = 0;
  for (int p = threadIdx.x; p < count; p += kThreads) above += bits(p) > limit;
  int ties_left = chosen > 0 ? chosen - block_count(above, scratch) : 0;
  __syncthreads();
  // Positions in order, kThreads at a time: who of the equals still finds room.
  for (int first = 0; first < count; first += kThreads) {
    const int p = first + static_cast<int>(threadIdx.x);
    const bool equal = p < count && bits(p) == limit;
    const unsigned ballot = __ballot_sync(0xffffffffU, equal);
    __syncthreads();
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = __popc(ballot);
    __syncthreads();
    int before = __popc(ballot & ((1U << threadIdx.x % 32) - 1));
    int all = 0;
    for (int w = 0; w < kWarps; ++w) {
      if (w < static_cast<int>(threadIdx.x) / 32) before += scratch[w];
      all += scratch[w];
    }
    if (p < count && (bits(p) < limit || chosen == 0 || (equal && before >= ties_left))) weight[p] = 0.0F;
    ties_left = max(0, ties_left - all);
  }
}

template <typename T, bool kCompressed>
__global__ void __launch_bounds__(kThreads) sparse_kernel(const DecodeParams p, float sparsity) {
  extern __shared__ float sparse_shared[];
  __shared__ int counts[kWarps];
  __shared__ float scratch[32];
  const int row = blockIdx.x / p.num_heads;
  const int head_index = blockIdx.x % p.num_heads;
  const int token = p.token_offset[row];
  if (p.token_offset[row + 1] - token != 1) return;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int length = p.start[row] + 1;
  float* q = sparse_shared;
  float* sum = sparse_shared + (1 + warp) * p.head_dim;
  float* weight = sparse_shared + (1 + kWarps) * p.head_dim;  // [length]

  const KvHead head = p.heads[static_cast<std::int64_t>(row) * p.num_heads + head_index];
  const auto elements = [&](int position, int offset, int parameters) {
    const std::int64_t at = static_cast<std::int64_t>(position) * head.position_stride;
    if constexpr (kCompressed) {
      const std::byte* line = head.base + at;
      return CompressedElements{line + offset, line + parameters, p.bits, p.group_shift};
    } else {
      return PlainElements<T>{reinterpret_cast<const T*>(head.base) + at + offset};
    }
  };
  const T* q_row =
      reinterpret_cast<const T*>(p.q) + token * p.q_stride + static_cast<std::int64_t>(head_index) * p.head_dim;
  for (int d = threadIdx.x; d < p.head_dim; d += kThreads) q[d] = to_float(q_row[d]) * p.scale_log2;
  for (int d = lane; d < p.head_dim; d += 32) sum[d] = 0.0F;
  __syncthreads();

  float largest = kNoScore;
  for (int position = warp; position < length; position += kWarps) {
    const auto key = elements(position, 0, head.k_parameters);
    float score = 0.0F;
    for (int d = lane; d < p.head_dim; d += 32) score = fmaf(q[d], key[d], score);
    score = warp_sum(score);
    largest = fmaxf(largest, score);
    if (lane == 0) weight[position] = score;
  }
  if (lane == 0) scratch[warp] = largest;
  __syncthreads();
  for (int w = 0; w < kWarps; ++w) largest = fmaxf(largest, scratch[w]);
  float total = 0.0F;
  for (int i = threadIdx.x; i < length; i += kThreads) total += weight[i] = exp2_fast(weight[i] - largest);
  total = block_sum(total, scratch);
  keep_largest(weight, length - 1, static_cast<int>(sparsity * static_cast<float>(length - 1)), counts);
  __syncthreads();

  for (int position = warp; position < length; position += kWarps) {
    const float share = weight[position];
    if (share == 0.0F) continue;
    const auto value = elements(position, head.v_offset, head.v_parameters);
    for (int d = lane; d < p.head_dim; d += 32) sum[d] = fmaf(share, value[d], sum[d]);
  }
  __syncthreads();
  T* out = reinterpret_cast<T*>(p.out) + token * p.out_stride + static_cast<std::int64_t>(head_index) * p.head_dim;
  for (int d = threadIdx.x; d < p.head_dim; d += kThreads) {
    float value = 0.0F;
    for (int w = 0; w < kWarps; ++w) value += sparse_shared[(1 + w) * p.head_dim + d];
    out[d] = from_float<T>(value / total);
  }
}

template <typename T, bool kCompressed>
void launch(const OpContext& context, const DecodeParams& p, float sparsity, int longest) {
  auto* kernel = sparse_kernel<T, kCompressed>;
  const std::uint64_t bytes = shared_bytes(longest, p.head_dim);
  constexpr std::uint64_t kWithoutAsking = 47ULL << 10;
  if (bytes > kWithoutAsking)
    FLEXGEN_CUDA_CALL(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)));
  kernel<<<grid_extent(static_cast<std::int64_t>(p.num_rows) * p.num_heads), kThreads, bytes, stream_of(context)>>>(
      p, sparsity);
  check_launch("launch of sparse_kernel");
}

}  // namespace

void attend_sparsely(const OpContext& context, const DecodeParams& p, DType dtype, bool compressed, float sparsity,
                     int longest) {
  with_element_type(dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    compressed ? launch<T, true>(context, p, sparsity, longest) : launch<T, false>(context, p, sparsity, longest);
  });
}

}  // namespace flexgen
