// Attention of single tokens over the cache: one pass over keys and values at memory speed.
//
// One block per (token, head, split). Its warps take tiles of positions in turn, so that a block reads neighbouring
// lines at a time and blocks of neighbouring heads share them. In a warp, kLanes lanes hold one position (16 bytes
// each) and 32 / kLanes positions travel side by side; every such lane group keeps its own running softmax
// (Milakov & Gimelshein 2018), and the groups meet only at the end, first by shuffles, then in shared memory.
// The loads of a tile's values are issued before its keys are used, those of the next keys before the values are.
//
//   q [tokens, heads * head_dim] -> (softmax(q . k * scale) . v) -> out, or per-split partial sums -> combine -> out
#pragma once

#include "ops/attention_workspace.hpp"
#include "ops/batch_view.hpp"
#include "ops/cuda/attention/params.cuh"
#include "ops/cuda/attention/span_parts.cuh"
#include "ops/cuda/cuda_dependency.cuh"
#include "ops/cuda/cuda_elements.cuh"
#include "ops/softmax_merge.hpp"

namespace flexgen {

/// Rows of up to this many positions are one split; longer ones are cut into pieces of about kSplitLength.
inline constexpr int kUnsplitLength = 768;
inline constexpr int kSplitLength = 512;

/// A function of the row's own length, never of the batch: a row's sums are the same beside any neighbours.
__host__ __device__ inline int num_splits(int length) {
  if (length <= kUnsplitLength) return 1;
  const int splits = (length + kSplitLength - 1) / kSplitLength;
  return splits < kMaxSplits ? splits : kMaxSplits;
}

inline constexpr int kDecodeWarps = 8;

/// What becomes of positions that rows share.
enum class SpanUse : std::uint8_t {
  none,    // there are none
  walked,  // every row reads them as it would read its own, in the same order
  merged,  // parts of the softmax are there (SpanParts): start counts what is the row's own, which alone is read
};

struct DecodeParams : QueryParams {
  float* partial_sum;           // [num_rows, num_heads, max_splits, head_dim], null without splits
  SoftmaxState* partial_state;  // [num_rows, num_heads, max_splits]
  int num_rows;
  int max_splits;   // of this launch
  int bits;         // of a compressed cache, else 0
  int group_shift;  // log2 of its groups' length
  bool per_token;   // false: grid over rows of count 1; true: grid over tokens of rows with count > 1, unsplit
  SpanParts parts;  // SpanUse::merged
};

struct DecodeWork {
  RowTokens tokens;  // of the row
  int row;
  int head;
  int token;
  int begin;  // positions of this block
  int end;
  int splits;  // of this row
};

/// This block's share; false when the row belongs to another kernel or has no such split.
__device__ inline bool decode_work(const DecodeParams& p, DecodeWork& work) {
  const int index = blockIdx.x / p.num_heads;
  work.head = blockIdx.x % p.num_heads;
  const int split = blockIdx.y;
  VisibleRange seen;
  if (p.per_token) {
    work.token = index;
    work.row = row_of_token(p.token_offset, p.num_rows, index);
    work.tokens = row_tokens(p.token_offset, p.start, work.row);
    if (!work.tokens.is_prefill()) return false;
    seen = visible_range(work.tokens.position_of(work.token));
    work.splits = 1;
  } else {
    work.row = index;
    work.tokens = row_tokens(p.token_offset, p.start, work.row);
    if (!work.tokens.is_decode()) return false;
    work.token = work.tokens.first_token;
    seen = visible_range(work.tokens.start);
    work.splits = num_splits(seen.length());
  }
  if (split >= work.splits) return false;
  const int share = ((seen.length() + work.splits - 1) / work.splits + 15) / 16 * 16;
  work.begin = seen.first + split * share;
  work.end = min(seen.end, work.begin + share);
  return true;
}

/// Running softmax of one lane group over the positions it has seen, for the kVector dimensions of one lane.
template <int kVector>
struct LaneSoftmax {
  SoftmaxState state = nothing_seen();
  float sum[kVector] = {};

  __device__ void raise(float new_largest) {
    const float factor = raise_largest(state, new_largest, Shrink{});
#pragma unroll
    for (int i = 0; i < kVector; ++i) sum[i] *= factor;
  }

  /// Merges the states of lanes that differ by `offset`; both end with the result.
  __device__ void merge_lanes(int offset) {
    raise(fmaxf(state.largest, __shfl_xor_sync(0xffffffffU, state.largest, offset)));
    state.weight += __shfl_xor_sync(0xffffffffU, state.weight, offset);
#pragma unroll
    for (int i = 0; i < kVector; ++i) sum[i] += __shfl_xor_sync(0xffffffffU, sum[i], offset);
  }
};

/// Loads this lane's 16 bytes of kUnroll positions, kStep apart; only the first `left` positions exist, what stands in
/// `to` for the others stays.
template <int kUnroll, int kStep>
__device__ inline void load_positions(uint4 (&to)[kUnroll], const std::byte* from, std::int64_t step_bytes, int left) {
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    if (u * kStep < left) to[u] = __ldg(reinterpret_cast<const uint4*>(from + u * step_bytes));
  }
}

/// This lane's part of the query's head, times the scale; zeros past head_dim.
template <typename T>
__device__ inline void load_query(const DecodeParams& p, const DecodeWork& work, int dim,
                                  float (&q)[kVectorElements<T>]) {
  constexpr int kVector = kVectorElements<T>;
#pragma unroll
  for (int i = 0; i < kVector; ++i) q[i] = 0.0F;
  if (dim < p.head_dim) {
    const std::int64_t at = work.token * p.q_stride + static_cast<std::int64_t>(work.head) * p.head_dim + dim;
    unpack<T>(*reinterpret_cast<const uint4*>(p.q + at * sizeof(T)), q);
  }
#pragma unroll
  for (int i = 0; i < kVector; ++i) q[i] *= p.scale_log2;
}

/// q . k over the elements of this lane.
template <typename T, int kUnroll>
__device__ inline void multiply_keys(const float (&q)[kVectorElements<T>], const uint4 (&k)[kUnroll],
                                     float (&score)[kUnroll]) {
  constexpr int kVector = kVectorElements<T>;
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    float element[kVector];
    unpack<T>(k[u], element);
    score[u] = 0.0F;
#pragma unroll
    for (int i = 0; i < kVector; ++i) score[u] = fmaf(q[i], element[i], score[u]);
  }
}

/// Where a lane's first position of a tile lies, tile after tile. kHop: positions from one to the next.
template <typename T, SpanUse kUse, int kHop>
struct LaneTiles {
  const std::byte* key;
  std::int64_t stride_bytes;
  std::int64_t v_offset_bytes;
  int part_end;  // SpanUse::walked

  /// offset, dim: of the lane, in the tile's positions and in the head.
  __device__ void enter(const DecodeParams& p, const DecodeWork& work, int tile, int offset, int dim) {
    constexpr bool kWalked = kUse == SpanUse::walked;
    const RowPart part = part_of<kWalked>(p.heads, p.shared, p.num_heads, work.row, work.tokens, tile);
    const CacheSpan span{part.heads[kv_head_of(work.head)], part.end - part.begin};
    stride_bytes = span.position_bytes(sizeof(T));
    v_offset_bytes = span.offset_bytes(CachePart::values, sizeof(T));
    key = span.at(CachePart::keys, tile - part.begin + offset, sizeof(T)) + dim * sizeof(T);
    part_end = part.end;
  }
  __device__ void next(const DecodeParams& p, const DecodeWork& work, int tile, int offset, int dim) {
    if (kUse == SpanUse::walked && tile >= part_end) {
      enter(p, work, tile, offset, dim);
    } else {
      key += kHop * stride_bytes;
    }
  }
};

/// One warp's pass over its tiles of [begin, end).
template <typename T, int kLanes, SpanUse kUse>
__device__ void attend_positions(const DecodeParams& p, const DecodeWork& work, int warp, int lane,
                                 LaneSoftmax<kVectorElements<T>>& softmax) {
  constexpr int kVector = kVectorElements<T>;
  constexpr int kGroups = 32 / kLanes;
  constexpr int kUnroll = 4;
  constexpr int kTile = kUnroll * kGroups;
  constexpr int kHop = kDecodeWarps * kTile;
  const int dim = lane % kLanes * kVector;  // first of this lane
  const bool active = dim < p.head_dim;
  int tile = work.begin + warp * kTile;
  int left = active ? work.end - tile - lane / kLanes : 0;  // positions from this lane's first one on

  static_assert(prefix_grain % kTile == 0, "a tile lies in one part of its row");
  LaneTiles<T, kUse, kHop> tiles;
  tiles.enter(p, work, tile, lane / kLanes, dim);
  uint4 k[kUnroll] = {}, v[kUnroll] = {};
  load_positions<kUnroll, kGroups>(k, tiles.key, tiles.stride_bytes * kGroups, left);

  float q[kVector];
  load_query<T>(p, work, dim, q);

  for (; tile < work.end; tile += kHop, left -= kHop) {
    load_positions<kUnroll, kGroups>(v, tiles.key + tiles.v_offset_bytes, tiles.stride_bytes * kGroups, left);
    float score[kUnroll];
    multiply_keys<T>(q, k, score);
    tiles.next(p, work, tile + kHop, lane / kLanes, dim);
    load_positions<kUnroll, kGroups>(k, tiles.key, tiles.stride_bytes * kGroups, left - kHop);

    float largest = softmax.state.largest;
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
#pragma unroll
      for (int offset = kLanes / 2; offset > 0; offset /= 2) {
        score[u] += __shfl_xor_sync(0xffffffffU, score[u], offset);
      }
      if (u * kGroups < left) largest = fmaxf(largest, score[u]);
    }
    softmax.raise(largest);
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      // past the end: weight 0 for the values of an earlier tile, which this lane has summed before
      const float weight = u * kGroups < left ? exp2_fast(score[u] - largest) : 0.0F;
      softmax.state.weight += weight;
      float element[kVector];
      unpack<T>(v[u], element);
#pragma unroll
      for (int i = 0; i < kVector; ++i) softmax.sum[i] = fmaf(weight, element[i], softmax.sum[i]);
    }
  }
#pragma unroll
  for (int offset = kLanes; offset < 32; offset *= 2) softmax.merge_lanes(offset);
}

/// Puts together what the warps of a block have seen, one thread per dimension: the row's result, or a split's part.
/// num_parts: of the row's spans (SpanUse::merged).
template <typename T, SpanUse kUse, int kWarps, int kWidth>
__device__ inline void finish_block(const DecodeParams& p, const DecodeWork& work, int num_parts,
                                    const float (&shared_sum)[kWarps][kWidth],
                                    const SoftmaxState (&shared_state)[kWarps]) {
  static_assert(kWidth <= kWarps * 32, "one thread per dimension");
  float factor[kWarps];
  const SoftmaxState all = softmax_merge(shared_state, kWarps, factor, Shrink{});
  const std::int64_t pair = static_cast<std::int64_t>(work.row) * p.num_heads + work.head;
  const std::int64_t part = pair * p.max_splits + blockIdx.y;
  const int d = threadIdx.x;
  if (d < p.head_dim) {
    float sum = 0.0F;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) sum = fmaf(shared_sum[w][d], factor[w], sum);
    if (work.splits == 1) {
      SoftmaxState total = all;
      if (kUse == SpanUse::merged) sum = add_span_parts(p.parts, pair, num_parts, p.head_dim, d, total, sum);
      const std::int64_t at = work.token * p.out_stride + static_cast<std::int64_t>(work.head) * p.head_dim + d;
      reinterpret_cast<T*>(p.out)[at] = from_float<T>(sum * (1.0F / total.weight));
    } else {
      p.partial_sum[part * p.head_dim + d] = sum;
    }
  }
  if (work.splits > 1 && threadIdx.x == 0) p.partial_state[part] = all;
}

/// Grid (rows or tokens * heads, splits), kDecodeWarps warps. head_dim <= kLanes * kVectorElements<T>.
/// SpanUse::merged: right behind the kernel of the spans, beside which it attends.
template <typename T, int kLanes, SpanUse kUse>
__global__ void __launch_bounds__(kDecodeWarps * 32, 3) decode_kernel(const DecodeParams p) {
  constexpr int kVector = kVectorElements<T>;
  __shared__ float shared_sum[kDecodeWarps][kLanes * kVector];
  __shared__ SoftmaxState shared_state[kDecodeWarps];

  if (kUse != SpanUse::merged) start_dependents_after_predecessor();
  DecodeWork work;
  if (!decode_work(p, work)) return;
  const int num_parts = kUse == SpanUse::merged ? num_span_parts(p.shared, work.row) : 0;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  LaneSoftmax<kVector> softmax;
  attend_positions<T, kLanes, kUse>(p, work, warp, lane, softmax);

  if (lane < kLanes) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) shared_sum[warp][lane * kVector + i] = softmax.sum[i];
  }
  if (lane == 0) shared_state[warp] = softmax.state;
  if (kUse == SpanUse::merged) start_dependents_after_predecessor();
  __syncthreads();

  finish_block<T, kUse>(p, work, num_parts, shared_sum, shared_state);
}

/// Adds up the splits of rows that have several. Grid (rows * heads), any block size.
template <typename T, SpanUse kUse>
__global__ void combine_splits_kernel(const DecodeParams p) {
  start_dependents_after_predecessor();
  const int row = blockIdx.x / p.num_heads;
  const int head = blockIdx.x % p.num_heads;
  const RowTokens tokens = row_tokens(p.token_offset, p.start, row);
  if (!tokens.is_decode()) return;
  const int splits = num_splits(visible_range(tokens.start).length());
  if (splits == 1) return;

  const std::int64_t first_part = static_cast<std::int64_t>(blockIdx.x) * p.max_splits;
  float factor[kMaxSplits];
  const SoftmaxState all = softmax_merge(p.partial_state + first_part, splits, factor, Shrink{});
  const int num_parts = kUse == SpanUse::merged ? num_span_parts(p.shared, row) : 0;
  for (int d = threadIdx.x; d < p.head_dim; d += blockDim.x) {
    float sum = 0.0F;
#pragma unroll
    for (int s = 0; s < kMaxSplits; ++s) {
      if (s < splits) sum = fmaf(p.partial_sum[(first_part + s) * p.head_dim + d], factor[s], sum);
    }
    SoftmaxState total = all;
    if (kUse == SpanUse::merged) sum = add_span_parts(p.parts, blockIdx.x, num_parts, p.head_dim, d, total, sum);
    const std::int64_t at = tokens.first_token * p.out_stride + static_cast<std::int64_t>(head) * p.head_dim + d;
    reinterpret_cast<T*>(p.out)[at] = from_float<T>(sum * (1.0F / total.weight));
  }
}

}  // namespace flexgen
