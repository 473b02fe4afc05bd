// Attention for shapes that the vector kernels do not cover: any dtype, head_dim and alignment, plain and compressed
// caches. Correct, not fast.
//
// One block per (token, head). A warp takes every kGeneralWarps-th position; its lanes share the head's dimensions.
#pragma once

#include "ops/cuda/attention/decode.cuh"
#include "ops/cuda/compressed_elements.cuh"

namespace flexgen {

inline constexpr int kGeneralWarps = 4;
inline constexpr int kGeneralMaxHeadDim = 2048;

/// Shared memory of general_kernel: q and one sum per warp, head_dim floats each.
inline std::uint64_t general_shared_bytes(int head_dim) {
  return static_cast<std::uint64_t>(kGeneralWarps + 1) * head_dim * sizeof(float);
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

/// One warp's pass over its positions 0 .. end - 1 of a part; `sum` [head_dim] of weighted values: a lane touches
/// dimensions lane, lane + 32, ... only.
template <typename T, bool kCompressed>
__device__ void attend_generally(const DecodeParams& p, const CacheSpan& span, int end, int warp, int lane,
                                 const float* q, float* sum, SoftmaxState& state) {
  for (int position = warp; position < end; position += kGeneralWarps) {
    const auto elements = [&](const std::byte* at, const std::byte* parameters) {
      if constexpr (kCompressed) {
        return CompressedElements{at, parameters, p.bits, p.group_shift};
      } else {
        return PlainElements<T>{reinterpret_cast<const T*>(at)};
      }
    };
    constexpr int kUnitBytes = kCompressed ? 1 : sizeof(T);
    const auto key =
        elements(span.at(CachePart::keys, position, kUnitBytes), span.parameters(CachePart::keys, position));
    const auto value =
        elements(span.at(CachePart::values, position, kUnitBytes), span.parameters(CachePart::values, position));
    float score = 0.0F;
    for (int d = lane; d < p.head_dim; d += 32) score = fmaf(q[d], key[d], score);
    score = warp_sum(score);
    const float factor = raise_largest(state, fmaxf(state.largest, score), Shrink{});
    const float share = exp2_fast(score - state.largest);
    state.weight += share;
    for (int d = lane; d < p.head_dim; d += 32) sum[d] = fmaf(share, value[d], sum[d] * factor);
  }
}

/// Grid (tokens * heads), kGeneralWarps warps. Of DecodeParams it reads all but the partials, splits and tokens.
template <typename T, bool kCompressed, bool kSpans>
__global__ void __launch_bounds__(kGeneralWarps * 32) general_kernel(const DecodeParams p) {
  extern __shared__ float general_shared[];
  __shared__ SoftmaxState shared_state[kGeneralWarps];
  const int token = blockIdx.x / p.num_heads;
  const int head = blockIdx.x % p.num_heads;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  float* q = general_shared;
  float* sum = general_shared + (1 + warp) * p.head_dim;

  const int row = row_of_token(p.token_offset, p.num_rows, token);
  const RowTokens tokens = row_tokens(p.token_offset, p.start, row);
  const std::int64_t head_at = static_cast<std::int64_t>(head) * p.head_dim;
  const T* q_row = reinterpret_cast<const T*>(p.q) + token * p.q_stride + head_at;
  for (int d = threadIdx.x; d < p.head_dim; d += blockDim.x) q[d] = to_float(q_row[d]) * p.scale_log2;
  for (int d = lane; d < p.head_dim; d += 32) sum[d] = 0.0F;
  __syncthreads();

  const VisibleRange seen = visible_range(tokens.position_of(token));
  SoftmaxState state = nothing_seen();
  for (int first = seen.first; first < seen.end;) {
    const RowPart part = part_of<kSpans>(p.heads, p.shared, p.num_heads, row, tokens, first);
    const int end = min(part.end, seen.end);
    const CacheSpan span{part.heads[kv_head_of(head)], part.end - part.begin};
    attend_generally<T, kCompressed>(p, span, end - part.begin, warp, lane, q, sum, state);
    first = end;
  }
  if (lane == 0) shared_state[warp] = state;
  __syncthreads();

  float factor[kGeneralWarps];
  const SoftmaxState all = softmax_merge(shared_state, kGeneralWarps, factor, Shrink{});
  T* out = reinterpret_cast<T*>(p.out) + token * p.out_stride + head_at;
  for (int d = threadIdx.x; d < p.head_dim; d += blockDim.x) {
    float total = 0.0F;
    for (int w = 0; w < kGeneralWarps; ++w) total = fmaf(general_shared[(1 + w) * p.head_dim + d], factor[w], total);
    out[d] = from_float<T>(total / all.weight);
  }
}

}  // namespace flexgen
