// Attention for shapes that the vector kernels do not cover: any dtype, head_dim and alignment, plain and compressed
// caches. Correct, not fast.
//
// One block per (token, head). A warp takes every kPlainWarps-th position; its lanes share the head's dimensions.
#pragma once

#include "ops/cuda/attention/decode.cuh"
#include "ops/cuda/compressed_elements.cuh"

namespace flexgen {

inline constexpr int kPlainWarps = 4;
inline constexpr int kPlainMaxHeadDim = 2048;

/// Shared memory of plain_kernel: q and one sum per warp, head_dim floats each.
inline std::uint64_t plain_shared_bytes(int head_dim) {
  return static_cast<std::uint64_t>(kPlainWarps + 1) * head_dim * sizeof(float);
}

/// The elements of one key or value.
template <typename T>
struct PlainElements {
  const T* at;
  __device__ float operator[](int d) const { return to_float(at[d]); }
};
struct CompressedElements {
  const std::byte* codes;
  const std::byte* parameters;
  int bits;
  int group_shift;

  __device__ float operator[](int d) const {
    const std::uint32_t word = reinterpret_cast<const std::uint32_t*>(codes)[d * bits / 32];
    const int shift = bits == 8 ? d % 4 * 8 : d % 2 * 16 + d % 8 / 2 * 4;
    const float2 line = scale_and_minimum(reinterpret_cast<const std::uint32_t*>(parameters)[d >> group_shift]);
    return fmaf(static_cast<float>(word >> shift & ((1U << bits) - 1)), line.x, line.y);
  }
};

/// Grid (tokens * heads), kPlainWarps warps. Of DecodeParams it reads all but the partials, splits and per_token.
template <typename T, bool kCompressed>
__global__ void __launch_bounds__(kPlainWarps * 32) plain_kernel(const DecodeParams p) {
  extern __shared__ float plain_shared[];
  __shared__ float2 shared_state[kPlainWarps];
  const int token = blockIdx.x / p.num_heads;
  const int head_index = blockIdx.x % p.num_heads;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  float* q = plain_shared;
  float* sum = plain_shared + (1 + warp) * p.head_dim;  // a lane touches dimensions lane, lane + 32, ... only

  const int row = row_of_token(p.token_offset, p.num_rows, token);
  const int length = p.start[row] + (token - p.token_offset[row]) + 1;
  const KvHead head = p.heads[static_cast<std::int64_t>(row) * p.num_heads + head_index];
  const T* q_row =
      reinterpret_cast<const T*>(p.q) + token * p.q_stride + static_cast<std::int64_t>(head_index) * p.head_dim;
  for (int d = threadIdx.x; d < p.head_dim; d += blockDim.x) q[d] = to_float(q_row[d]) * p.scale_log2;
  for (int d = lane; d < p.head_dim; d += 32) sum[d] = 0.0F;
  __syncthreads();

  float largest = kNoScore;
  float weight = 0.0F;
  for (int position = warp; position < length; position += kPlainWarps) {
    const std::int64_t at = static_cast<std::int64_t>(position) * head.position_stride;
    const auto elements = [&](int offset, int parameters) {
      if constexpr (kCompressed) {
        const std::byte* line = head.base + at;
        return CompressedElements{line + offset, line + parameters, p.bits, p.group_shift};
      } else {
        return PlainElements<T>{reinterpret_cast<const T*>(head.base) + at + offset};
      }
    };
    const auto key = elements(0, head.k_parameters);
    const auto value = elements(head.v_offset, head.v_parameters);
    float score = 0.0F;
    for (int d = lane; d < p.head_dim; d += 32) score = fmaf(q[d], key[d], score);
    score = warp_sum(score);
    const float new_largest = fmaxf(largest, score);
    const float factor = exp2_fast(largest - new_largest);
    const float share = exp2_fast(score - new_largest);
    largest = new_largest;
    weight = fmaf(weight, factor, share);
    for (int d = lane; d < p.head_dim; d += 32) sum[d] = fmaf(share, value[d], sum[d] * factor);
  }
  if (lane == 0) shared_state[warp] = make_float2(largest, weight);
  __syncthreads();

  float total_largest = kNoScore;
  for (int w = 0; w < kPlainWarps; ++w) total_largest = fmaxf(total_largest, shared_state[w].x);
  float total_weight = 0.0F;
  for (int w = 0; w < kPlainWarps; ++w) {
    total_weight = fmaf(shared_state[w].y, exp2_fast(shared_state[w].x - total_largest), total_weight);
  }
  T* out = reinterpret_cast<T*>(p.out) + token * p.out_stride + static_cast<std::int64_t>(head_index) * p.head_dim;
  for (int d = threadIdx.x; d < p.head_dim; d += blockDim.x) {
    float total = 0.0F;
    for (int w = 0; w < kPlainWarps; ++w) {
      total = fmaf(plain_shared[(1 + w) * p.head_dim + d], exp2_fast(shared_state[w].x - total_largest), total);
    }
    out[d] = from_float<T>(total / total_weight);
  }
}

}  // namespace flexgen
