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

namespace flexgen {

inline constexpr int kQueryTile = 64;
inline constexpr int kKeyTile = 64;
inline constexpr int kPrefillThreads = 128;

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
};

/// Running softmax of a lane's two query rows (lane / 4 and lane / 4 + 8 of its warp).
struct PrefillSoftmax {
  float largest[2] = {kNoScore, kNoScore};
  float weight[2] = {0.0F, 0.0F};  // this lane's columns only, until `finish`

  /// Turns scores into weights relative to the new largest score; returns the correction of earlier sums.
  /// last_key[r]: the last key, counted from the tile's first, that row r may see.
  template <int kTiles>
  __device__ float2 update(float (&scores)[kTiles][4], float scale_log2, bool masked, const int (&last_key)[2],
                           int lane) {
    float row_largest[2] = {largest[0], largest[1]};
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[n][i] *= scale_log2;
    }
    if (masked) {
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (n * 8 + lane % 4 * 2 + i % 2 > last_key[i / 2]) scores[n][i] = -INFINITY;
        }
      }
    }
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) row_largest[i / 2] = fmaxf(row_largest[i / 2], scores[n][i]);
    }
    float correction[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      row_largest[r] = fmaxf(row_largest[r], __shfl_xor_sync(0xffffffffU, row_largest[r], 1));
      row_largest[r] = fmaxf(row_largest[r], __shfl_xor_sync(0xffffffffU, row_largest[r], 2));
      correction[r] = exp2_fast(largest[r] - row_largest[r]);
      largest[r] = row_largest[r];
      weight[r] *= correction[r];
    }
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        scores[n][i] = exp2_fast(scores[n][i] - largest[i / 2]);
        weight[i / 2] += scores[n][i];
      }
    }
    return make_float2(correction[0], correction[1]);
  }

  /// Sum of weights of both rows, in every lane of the row.
  __device__ void finish() {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      weight[r] += __shfl_xor_sync(0xffffffffU, weight[r], 1);
      weight[r] += __shfl_xor_sync(0xffffffffU, weight[r], 2);
    }
  }
};

template <typename T, int kSteps>
__global__ void __launch_bounds__(kPrefillThreads, kSteps <= 6 ? 3 : 2) prefill_kernel(const PrefillParams p) {
  using Block = PrefillBlock<T, kSteps>;
  __shared__ __align__(16) uint4 key_tile[kKeyTile * Block::kChunks];
  __shared__ __align__(16) uint4 value_tile[kKeyTile * Block::kChunks];

  const int row = blockIdx.z;
  const int head_index = blockIdx.y;
  const int first_token = p.token_offset[row];
  const int count = p.token_offset[row + 1] - first_token;
  const int first_query = (p.num_query_tiles - 1 - static_cast<int>(blockIdx.x)) * kQueryTile;  // longest first
  if (count <= 1 || first_query >= count) return;
  const int start = p.start[row];
  const int num_keys = start + min(count, first_query + kQueryTile);

  const KvHead head = p.heads[static_cast<std::int64_t>(row) * p.num_heads + head_index];
  const std::int64_t stride_bytes = static_cast<std::int64_t>(head.position_stride) * sizeof(T);
  const std::byte* values = head.base + static_cast<std::int64_t>(head.v_offset) * sizeof(T);
  const int lane = threadIdx.x % 32;
  const int warp_query = first_query + static_cast<int>(threadIdx.x) / 32 * 16;

  Block::load_tile(key_tile, head.base, stride_bytes, 0, num_keys, p.head_dim);
  commit_copies();
  std::uint32_t q[kSteps][4];
  Block::load_q(q, p, first_token + warp_query, count - warp_query, head_index, lane);
  float out[Block::kOutTiles][4] = {};
  PrefillSoftmax softmax;

  for (int first_key = 0; first_key < num_keys; first_key += kKeyTile) {
    Block::load_tile(value_tile, values, stride_bytes, first_key, num_keys, p.head_dim);
    commit_copies();
    wait_for_copies<1>();  // the keys
    __syncthreads();
    float scores[Block::kScoreTiles][4];
    Block::multiply_keys(scores, q, key_tile, lane);
    __syncthreads();  // every warp is done with the keys
    if (first_key + kKeyTile < num_keys) {
      Block::load_tile(key_tile, head.base, stride_bytes, first_key + kKeyTile, num_keys, p.head_dim);
    }
    commit_copies();  // maybe empty: the count of groups stays the same

    const int visible = start + warp_query + lane / 4 - first_key;
    const int last_key[2] = {visible, visible + 8};
    const bool masked = first_key + kKeyTile - 1 > start + warp_query;
    const float2 correction = softmax.update(scores, p.scale_log2, masked, last_key, lane);
#pragma unroll
    for (int n = 0; n < Block::kOutTiles; ++n) {
      out[n][0] *= correction.x;
      out[n][1] *= correction.x;
      out[n][2] *= correction.y;
      out[n][3] *= correction.y;
    }
    wait_for_copies<1>();  // the values
    __syncthreads();
    Block::multiply_values(out, scores, value_tile, lane);
    __syncthreads();  // every warp is done with the values
  }

  softmax.finish();
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int query = warp_query + lane / 4 + r * 8;
    if (query >= count) continue;
    const float inverse = 1.0F / softmax.weight[r];
    std::byte* out_row =
        p.out + ((first_token + query) * p.out_stride + static_cast<std::int64_t>(head_index) * p.head_dim) * sizeof(T);
#pragma unroll
    for (int n = 0; n < Block::kOutTiles; ++n) {
      const int dim = n * 8 + lane % 4 * 2;
      if (dim < p.head_dim) {
        *reinterpret_cast<std::uint32_t*>(out_row + dim * sizeof(T)) =
            pack_pair<T>(out[n][2 * r] * inverse, out[n][2 * r + 1] * inverse);
      }
    }
  }
}

}  // namespace flexgen
