// Attention of the single tokens of rows over a span that they share: its keys and values are read once for up to 64
// rows, whose queries of a head are the rows of a matrix on tensor cores, as those of a prompt are (prefill.cuh).
//
// One block per (piece of a span, 64 of its rows, head). Codes of a compressed cache are dequantized on their way to
// shared memory, to what the prompts' kernels make of them (dequantize_cache.cu).
//
//   q [rows, d] of a head, K and V [piece, d]  ->  per row max and sum of weights, and weighted sum of V [d]
#pragma once

#include "ops/cuda/attention/prefill.cuh"
#include "ops/cuda/attention/span_decode.hpp"
#include "ops/cuda/compressed_elements.cuh"

namespace flexgen {

struct SpanDecodeParams {
  DecodeParams decode;  // of rows `rows`
  SpanRows rows;
  int row_tiles;  // of kQueryTile rows, of the span that has most
};

/// Keys and values of a plain cache on their way to shared memory: asynchronous copies, one tile ahead.
template <typename T, int kSteps>
struct PlainTiles {
  using Block = PrefillBlock<T, kSteps>;
  const std::byte* keys;
  const std::byte* values;
  std::int64_t stride_bytes;
  int head_dim;

  __device__ void set(const DecodeParams& p, const CacheSpan& span) {
    keys = span.at(CachePart::keys, 0, sizeof(T));
    values = span.at(CachePart::values, 0, sizeof(T));
    stride_bytes = span.position_bytes(sizeof(T));
    head_dim = p.head_dim;
  }
  __device__ void fetch_keys(uint4* tile, int first) {
    Block::load_tile(tile, keys, stride_bytes, first, first + kKeyTile, head_dim);
    commit_copies();
  }
  /// Keys that were fetched are there after the next barrier; fetches the values.
  __device__ void put_keys(uint4*, uint4* value_tile, int first) {
    Block::load_tile(value_tile, values, stride_bytes, first, first + kKeyTile, head_dim);
    commit_copies();
    wait_for_copies<1>();
  }
  /// The same of values; fetches the keys from `next` on, if that is before `end`.
  __device__ void put_values(uint4*, uint4* key_tile, int next, int end) {
    if (next < end) Block::load_tile(key_tile, keys, stride_bytes, next, next + kKeyTile, head_dim);
    commit_copies();  // maybe empty: the count of groups stays the same
    wait_for_copies<1>();
  }
};

/// Those of a compressed cache: codes wait in registers. A thread has 16 bytes of every kKeyStep-th key, as in
/// PrefillBlock::load_tile.
template <typename T, int kSteps, int kBits>
struct StoredTiles {
  using Block = PrefillBlock<T, kSteps>;
  static constexpr int kKeyStep = kPrefillThreads / Block::kChunks;
  static constexpr int kKeys = kKeyTile / kKeyStep;
  CacheSpan span;
  int group;  // of this thread's eight dimensions; -1: there are no such
  EightCodes<kBits> codes[kKeys];
  std::uint32_t line[kKeys];

  __device__ static int chunk() { return threadIdx.x % Block::kChunks; }
  __device__ static int key() { return threadIdx.x / Block::kChunks; }

  __device__ void set(const DecodeParams& p, const CacheSpan& of) {
    span = of;
    group = chunk() * 8 < p.head_dim ? chunk() * 8 >> p.group_shift : -1;
  }
  __device__ void fetch(CachePart part, int first) {
    if (group < 0) return;
#pragma unroll
    for (int i = 0; i < kKeys; ++i) {
      const int position = first + key() + i * kKeyStep;
      codes[i].load(span.at(part, position, 1) + chunk() * kBits);
      line[i] = reinterpret_cast<const std::uint32_t*>(span.parameters(part, position))[group];
    }
  }
  __device__ void put(uint4* tile) const {
    if (chunk() >= kSteps * 2) return;  // beyond what the products read
    uint4* to = tile + Block::swizzled(key(), chunk());
#pragma unroll
    for (int i = 0; i < kKeys; ++i) {
      float value[8] = {};
      if (group >= 0) codes[i].values(scale_and_minimum(line[i]), value);
      to[i * kKeyStep * Block::kChunks] = pack<T>(value);
    }
  }

  __device__ void fetch_keys(uint4*, int first) { fetch(CachePart::keys, first); }
  __device__ void put_keys(uint4* key_tile, uint4*, int first) {
    put(key_tile);
    fetch(CachePart::values, first);
  }
  __device__ void put_values(uint4* value_tile, uint4*, int next, int end) {
    put(value_tile);
    if (next < end) fetch(CachePart::keys, next);
  }
};

/// A lane's two rows of the block's 64: -1 where there is none, or none of count 1.
struct LaneRows {
  int row[2];  // in the tables
  int token[2];

  /// first, end: the block's rows.
  __device__ void set(const DecodeParams& p, int first, int end) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      row[r] = first + static_cast<int>(threadIdx.x) / 32 * 16 + static_cast<int>(threadIdx.x) % 32 / 4 + r * 8;
      token[r] = -1;
      if (row[r] >= end) continue;
      const RowTokens tokens = row_tokens(p.token_offset, p.start, row[r]);
      if (tokens.is_decode()) token[r] = tokens.first_token;
    }
  }
  __device__ bool any() const { return token[0] >= 0 || token[1] >= 0; }
};

template <typename T, int kSteps>
__device__ inline void load_queries(std::uint32_t (&q)[kSteps][4], const DecodeParams& p, const LaneRows& rows,
                                    int head) {
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = rows.token[i % 2];
      const int dim = step * 16 + i / 2 * 8 + static_cast<int>(threadIdx.x) % 4 * 2;
      const std::int64_t at = token * p.q_stride + static_cast<std::int64_t>(head) * p.head_dim + dim;
      q[step][i] = token >= 0 && dim < p.head_dim ? *reinterpret_cast<const std::uint32_t*>(p.q + at * sizeof(T)) : 0;
    }
  }
}

/// Writes part `part` of this lane's rows.
template <int kOutTiles>
__device__ inline void store_parts(const float (&out)[kOutTiles][4], const SoftmaxState (&state)[2],
                                   const DecodeParams& p, const LaneRows& rows, int head, int part) {
  const int column = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if (rows.token[r] < 0) continue;
    const std::int64_t at = (static_cast<std::int64_t>(rows.row[r]) * p.num_heads + head) * p.parts.most + part;
    if (column == 0) p.parts.state[at] = state[r];
    float* sum = p.parts.sum + at * p.head_dim;
#pragma unroll
    for (int n = 0; n < kOutTiles; ++n) {
      const int dim = n * 8 + column * 2;
      if (dim < p.head_dim) *reinterpret_cast<float2*>(sum + dim) = make_float2(out[n][2 * r], out[n][2 * r + 1]);
    }
  }
}

/// The first part of a span's pieces among those of a row that has it.
__device__ inline int first_part_of(const SpanTables& shared, int row, int span) {
  int part = 0;
  for (const std::int32_t* index = shared.rows.index + shared.rows.first[row]; *index != span; ++index)
    part += pieces_of(shared.spans[*index].length).count;
  return part;
}

/// Grid (row tiles * pieces, heads, spans). Tiles: PlainTiles or StoredTiles.
template <typename T, int kSteps, typename Tiles>
__global__ void __launch_bounds__(kPrefillThreads, kSteps <= 6 ? 3 : 2) span_kernel(const SpanDecodeParams params) {
  using Block = PrefillBlock<T, kSteps>;
  __shared__ __align__(16) uint4 key_tile[kKeyTile * Block::kChunks];
  __shared__ __align__(16) uint4 value_tile[kKeyTile * Block::kChunks];

  start_dependents_after_predecessor();
  const DecodeParams& p = params.decode;
  const SharedSpan span = p.shared.spans[blockIdx.z];
  const SpanPieces pieces = pieces_of(span.length);
  const int piece = blockIdx.x / params.row_tiles;
  const int first_row =
      max(span.first_row - params.rows.first, 0) + static_cast<int>(blockIdx.x) % params.row_tiles * kQueryTile;
  const int end_row = min(span.first_row + span.num_rows - params.rows.first, params.rows.count);
  if (piece >= pieces.count || first_row >= end_row) return;
  LaneRows rows;
  rows.set(p, first_row, end_row);
  if (!__syncthreads_or(rows.any())) return;  // prompts alone, which are another kernel's
  const bool busy = __any_sync(0xffffffffU, rows.any());

  const int head = blockIdx.y;
  const int begin = piece * pieces.length, end = min(span.length, begin + pieces.length);
  Tiles tiles;
  tiles.set(p, {heads_of_row(p.shared.heads, p.num_heads, span.run)[kv_head_of(head)], span.length});
  tiles.fetch_keys(key_tile, begin);
  std::uint32_t q[kSteps][4];
  load_queries<T>(q, p, rows, head);
  float out[Block::kOutTiles][4] = {};
  PrefillSoftmax softmax;

  const int lane = threadIdx.x % 32;
  for (int first_key = begin; first_key < end; first_key += kKeyTile) {
    tiles.put_keys(key_tile, value_tile, first_key);
    __syncthreads();
    float scores[Block::kScoreTiles][4];
    if (busy) Block::multiply_keys(scores, q, key_tile, lane);
    __syncthreads();  // every warp is done with the keys
    tiles.put_values(value_tile, key_tile, first_key + kKeyTile, end);
    if (busy) {
      Block::scale_scores(scores, p.scale_log2);
      Block::scale_sums(out, softmax.update(scores));
    }
    __syncthreads();
    if (busy) Block::multiply_values(out, scores, value_tile, lane);
    __syncthreads();  // every warp is done with the values
  }
  softmax.finish();
  store_parts(out, softmax.state, p, rows, head, first_part_of(p.shared, first_row, blockIdx.z) + piece);
}

}  // namespace flexgen
