// Causal attention of many new tokens per row on tensor cores, keys and values straight from the cache.
//
// A block computes kQueryTile queries of one (row, head); its four warps own 16 queries each and keep their q, scores
// and output sums in registers, while tiles of kKeyTile keys and values pass through shared memory. Softmax is online,
// in float32; weights are rounded to the element type before the second product. Source: Dao 2023 (FlashAttention-2).
//
//   per key tile: S [16, 64] = q [16, d] . K^T;  P = exp2(S - max);  O [16, d] = O * correction + P . V [64, d]
//
// In shared memory a key's row is kChunks chunks of 16 bytes, chunk c stored at c ^ (key % 8), so that the eight rows
// of a matrix load lie in different banks.
#pragma once

#include "ops/cuda/attention/decode.cuh"
#include "ops/cuda/attention/params.cuh"
#include "ops/cuda/cuda_tensor_core.cuh"
#include "spec/block_limits.hpp"

namespace flexgen {

inline constexpr int kQueryTile = 64;
inline constexpr int kKeyTile = 64;
inline constexpr int kPrefillThreads = 128;
static_assert(prefix_grain % kKeyTile == 0, "a tile of keys lies in one part of its row");

struct PrefillParams : QueryParams {
  int num_query_tiles;  // of the longest row
};

/// kSteps: head_dim in steps of 16, rounded up. Grid (query tiles, heads, rows): rows of count 1 are another kernel's.
template <typename T, int kSteps>
struct PrefillBlock {
  static constexpr int kChunks = kSteps > 4 ? 16 : 8;  // per key in shared memory, a multiple of 8 for the swizzle
  static constexpr int kScoreTiles = kKeyTile / 8;
  static constexpr int kOutTiles = kSteps * 2;

  __device__ static int swizzled(int key, int chunk) { return key * kChunks + (chunk ^ (key % 8)); }

  /// Starts the copy of keys (or values) first .. first + kKeyTile - 1 of one head.
  __device__ static void load_tile(uint4* tile, const std::byte* base, std::int64_t stride_bytes, int first, int end,
                                   int head_dim) {
    constexpr int kKeyStep = kPrefillThreads / kChunks;  // a multiple of 8: a thread's chunk keeps its place
    const int key = threadIdx.x / kChunks;
    const int chunk = threadIdx.x % kChunks;
    if (chunk >= kSteps * 2) return;  // beyond what the products read
    const std::byte* from = base + (first + key) * stride_bytes + chunk * 16;
    uint4* to = tile + swizzled(key, chunk);
    const int keys_left = chunk * 8 < head_dim ? end - first - key : 0;
#pragma unroll
    for (int i = 0; i < kKeyTile / kKeyStep; ++i) {
      copy_16_async(to + i * kKeyStep * kChunks, from, i * kKeyStep < keys_left);
      from += kKeyStep * stride_bytes;
    }
  }

  /// This lane's part of 16 query rows from global memory; zeros past the row's tokens and past head_dim.
  __device__ static void load_q(std::uint32_t (&q)[kSteps][4], const PrefillParams& p, int token, int queries_left,
                                int head, int lane) {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int query = lane / 4 + i % 2 * 8;
        const int dim = step * 16 + i / 2 * 8 + lane % 4 * 2;
        const std::int64_t at = (token + query) * p.q_stride + static_cast<std::int64_t>(head) * p.head_dim + dim;
        q[step][i] = query < queries_left && dim < p.head_dim
                         ? *reinterpret_cast<const std::uint32_t*>(p.q + at * sizeof(T))
                         : 0;
      }
    }
  }

  /// scores = q . K^T, raw.
  __device__ static void multiply_keys(float (&scores)[kScoreTiles][4], const std::uint32_t (&q)[kSteps][4],
                                       const uint4* tile, int lane) {
#pragma unroll
    for (int n = 0; n < kScoreTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[n][i] = 0.0F;
    }
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int n = 0; n < kScoreTiles; n += 2) {
        // matrices: (keys n, dims 0-7), (keys n, dims 8-15), (keys n + 1, dims 0-7), (keys n + 1, dims 8-15)
        const int matrix = lane / 8;
        std::uint32_t b[4];
        load_matrices(b, tile + swizzled((n + matrix / 2) * 8 + lane % 8, step * 2 + matrix % 2));
        multiply_add<T>(scores[n], q[step], b[0], b[1]);
        multiply_add<T>(scores[n + 1], q[step], b[2], b[3]);
      }
    }
  }

  __device__ static void scale_scores(float (&scores)[kScoreTiles][4], float scale_log2) {
#pragma unroll
    for (int n = 0; n < kScoreTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[n][i] *= scale_log2;
    }
  }

  /// Brings the sums of a lane's two rows to their new largest scores.
  __device__ static void scale_sums(float (&out)[kOutTiles][4], float2 correction) {
#pragma unroll
    for (int n = 0; n < kOutTiles; ++n) {
      out[n][0] *= correction.x;
      out[n][1] *= correction.x;
      out[n][2] *= correction.y;
      out[n][3] *= correction.y;
    }
  }

  /// out += P . V, the weights in `scores`.
  __device__ static void multiply_values(float (&out)[kOutTiles][4], const float (&scores)[kScoreTiles][4],
                                         const uint4* tile, int lane) {
#pragma unroll
    for (int step = 0; step < kKeyTile / 16; ++step) {
      const float(&low)[4] = scores[2 * step];
      const float(&high)[4] = scores[2 * step + 1];
      const std::uint32_t a[4] = {pack_pair<T>(low[0], low[1]), pack_pair<T>(low[2], low[3]),
                                  pack_pair<T>(high[0], high[1]), pack_pair<T>(high[2], high[3])};
#pragma unroll
      for (int n = 0; n < kOutTiles; n += 2) {
        // matrices: (keys 0-7, dims n), (keys 8-15, dims n), (keys 0-7, dims n + 1), (keys 8-15, dims n + 1)
        const int matrix = lane / 8;
        std::uint32_t b[4];
        load_matrices_transposed(b, tile + swizzled(step * 16 + matrix % 2 * 8 + lane % 8, n + matrix / 2));
        multiply_add<T>(out[n], a, b[0], b[1]);
        multiply_add<T>(out[n + 1], a, b[2], b[3]);
      }
    }
  }

  /// Writes this lane's part of 16 rows of results, those of the row's tokens.
  __device__ static void store_rows(const float (&out)[kOutTiles][4], const SoftmaxState (&state)[2],
                                    const PrefillParams& p, int token, int queries_left, int head, int lane) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int query = lane / 4 + r * 8;
      if (query >= queries_left) continue;
      const float inverse = 1.0F / state[r].weight;
      std::byte* out_row =
          p.out + ((token + query) * p.out_stride + static_cast<std::int64_t>(head) * p.head_dim) * sizeof(T);
#pragma unroll
      for (int n = 0; n < kOutTiles; ++n) {
        const int dim = n * 8 + lane % 4 * 2;
        if (dim < p.head_dim) {
          *reinterpret_cast<std::uint32_t*>(out_row + dim * sizeof(T)) =
              pack_pair<T>(out[n][2 * r] * inverse, out[n][2 * r + 1] * inverse);
        }
      }
    }
  }
};

/// Where the tiles of a row's keys and values lie, from its first position on: each in one part of the row.
template <typename T, int kSteps, bool kSpans>
struct RowTiles {
  const std::byte* keys;  // of the part's first position
  const std::byte* values;
  std::int64_t stride_bytes;
  int begin;  // of the part
  int end;

  __device__ void enter(const PrefillParams& p, int row, int head, const RowTokens& tokens, int position) {
    const RowPart part = part_of<kSpans>(p.heads, p.shared, p.num_heads, row, tokens, position);
    const CacheSpan span{part.heads[kv_head_of(head)], part.end - part.begin};
    stride_bytes = span.position_bytes(sizeof(T));
    keys = span.at(CachePart::keys, 0, sizeof(T));
    values = span.at(CachePart::values, 0, sizeof(T));
    begin = part.begin;
    end = part.end;
  }
  /// Starts the copy of the tile from position `first` on, of the positions before `seen_end`; base: keys or values.
  __device__ void load(uint4* tile, const std::byte* base, int first, int seen_end, int head_dim) const {
    PrefillBlock<T, kSteps>::load_tile(tile, base, stride_bytes, first - begin, seen_end - begin, head_dim);
  }
};

/// Running softmax of a lane's two query rows (lane / 4 and lane / 4 + 8 of its warp).
struct PrefillSoftmax {
  SoftmaxState state[2] = {nothing_seen(), nothing_seen()};  // weights of this lane's columns only, until `finish`

  /// Takes out of a tile's scores what its two rows do not attend. last_key[r]: the last key that row r attends,
  /// counted from the tile's first.
  template <int kTiles>
  __device__ static void hide_unseen(float (&scores)[kTiles][4], const int (&last_key)[2], int lane) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (n * 8 + lane % 4 * 2 + i % 2 > last_key[i / 2]) scores[n][i] = -INFINITY;
      }
    }
  }

  /// Turns scores into weights relative to the new largest score; returns the correction of earlier sums.
  template <int kTiles>
  __device__ float2 update(float (&scores)[kTiles][4]) {
    float largest[2] = {state[0].largest, state[1].largest};
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) largest[i / 2] = fmaxf(largest[i / 2], scores[n][i]);
    }
    float correction[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      largest[r] = fmaxf(largest[r], __shfl_xor_sync(0xffffffffU, largest[r], 1));
      largest[r] = fmaxf(largest[r], __shfl_xor_sync(0xffffffffU, largest[r], 2));
      correction[r] = raise_largest(state[r], largest[r], Shrink{});
    }
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        scores[n][i] = exp2_fast(scores[n][i] - state[i / 2].largest);
        state[i / 2].weight += scores[n][i];
      }
    }
    return make_float2(correction[0], correction[1]);
  }

  /// Sum of weights of both rows, in every lane of the row.
  __device__ void finish() {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      state[r].weight += __shfl_xor_sync(0xffffffffU, state[r].weight, 1);
      state[r].weight += __shfl_xor_sync(0xffffffffU, state[r].weight, 2);
    }
  }
};

template <typename T, int kSteps, bool kSpans>
__global__ void __launch_bounds__(kPrefillThreads, kSteps <= 6 ? 3 : 2) prefill_kernel(const PrefillParams p) {
  using Block = PrefillBlock<T, kSteps>;
  __shared__ __align__(16) uint4 key_tile[kKeyTile * Block::kChunks];
  __shared__ __align__(16) uint4 value_tile[kKeyTile * Block::kChunks];

  const int row = blockIdx.z;
  const int head = blockIdx.y;
  const RowTokens tokens = row_tokens(p.token_offset, p.start, row);
  const int count = tokens.count;
  const int first_query = (p.num_query_tiles - 1 - static_cast<int>(blockIdx.x)) * kQueryTile;  // longest first
  if (!tokens.is_prefill() || first_query >= count) return;
  const int start = tokens.start;
  const VisibleRange seen = visible_range(start + first_query, start + min(count, first_query + kQueryTile) - 1);

  const int lane = threadIdx.x % 32;
  const int warp_query = first_query + static_cast<int>(threadIdx.x) / 32 * 16;

  const int first_tile = seen.first / kKeyTile * kKeyTile;
  RowTiles<T, kSteps, kSpans> tiles;
  tiles.enter(p, row, head, tokens, first_tile);
  tiles.load(key_tile, tiles.keys, first_tile, seen.end, p.head_dim);
  commit_copies();
  std::uint32_t q[kSteps][4];
  Block::load_q(q, p, tokens.first_token + warp_query, count - warp_query, head, lane);
  float out[Block::kOutTiles][4] = {};
  PrefillSoftmax softmax;

  for (int first_key = first_tile; first_key < seen.end; first_key += kKeyTile) {
    tiles.load(value_tile, tiles.values, first_key, seen.end, p.head_dim);
    commit_copies();
    wait_for_copies<1>();  // the keys
    __syncthreads();
    float scores[Block::kScoreTiles][4];
    Block::multiply_keys(scores, q, key_tile, lane);
    __syncthreads();  // every warp is done with the keys
    if (first_key + kKeyTile < seen.end) {
      const int next_key = first_key + kKeyTile;
      if (kSpans && next_key >= tiles.end) tiles.enter(p, row, head, tokens, next_key);
      tiles.load(key_tile, tiles.keys, next_key, seen.end, p.head_dim);
    }
    commit_copies();  // maybe empty: the count of groups stays the same

    const int position = start + warp_query + lane / 4;
    const int last = visible_range(position).end - 1 - first_key;
    const int last_key[2] = {last, last + 8};  // of positions 8 apart
    const bool all_seen = first_key + kKeyTile <= visible_range(start + warp_query).end;
    Block::scale_scores(scores, p.scale_log2);
    if (!all_seen) softmax.hide_unseen(scores, last_key, lane);
    Block::scale_sums(out, softmax.update(scores));
    wait_for_copies<1>();  // the values
    __syncthreads();
    Block::multiply_values(out, scores, value_tile, lane);
    __syncthreads();  // every warp is done with the values
  }

  softmax.finish();
  Block::store_rows(out, softmax.state, p, tokens.first_token + warp_query, count - warp_query, head, lane);
}

}  // namespace flexgen
