// What every attention kernel is given, and what every kernel that appends to the cache is.
#pragma once

#include "ops/attention.hpp"
#include "ops/cache_span.hpp"
#include "ops/cuda/cuda_launch.cuh"

namespace flexgen {

struct QueryParams {
  const std::int32_t* token_offset;  // [num_rows + 1]
  const std::int32_t* start;         // [num_rows]
  const KvHead* heads;               // [num_rows, num_heads]
  const std::byte* q;                // [tokens, heads * head_dim]
  std::byte* out;                    // like q
  std::int64_t q_stride;             // elements
  std::int64_t out_stride;           // elements
  int num_heads;
  int head_dim;
  float scale_log2;  // scale * log2(e)
};

inline QueryParams query_params(const AttentionArgs& args) {
  constexpr float kLog2E = 1.4426950408889634F;
  return {args.batch.token_offset, args.batch.start,    args.cache.heads,     args.q.data,         args.out.data,
          args.q.row_stride,       args.out.row_stride, args.cache.num_heads, args.cache.head_dim, args.scale * kLog2E};
}

/// The row that holds packed token `token`.
__device__ inline int row_of_token(const std::int32_t* token_offset, int num_rows, int token) {
  int low = 0, high = num_rows;  // token_offset[low] <= token < token_offset[high]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (token_offset[middle] <= token) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

struct AppendParams {
  const std::int32_t* token_offset;  // [num_rows + 1]
  const std::int32_t* start;         // [num_rows]
  const KvHead* heads;               // [num_rows, num_heads]
  const std::byte* k;                // [tokens, heads * head_dim]
  const std::byte* v;
  std::int64_t k_stride_bytes;
  std::int64_t v_stride_bytes;
  int num_rows;
  int num_heads;
};

inline AppendParams append_params(const BatchView& batch, const MatrixView& k, const MatrixView& v,
                                  const KvView& cache) {
  const auto size = static_cast<std::int64_t>(element_bytes(k.dtype));
  return {batch.token_offset,  batch.start,         cache.heads,    k.data,         v.data,
          k.row_stride * size, v.row_stride * size, batch.num_rows, cache.num_heads};
}

/// Where a new token goes.
struct TokenPlace {
  RowTokens tokens;  // of its row
  std::int64_t position;
  const KvHead* heads;  // [num_heads], of its row

  __device__ CacheSpan span(int kv_head) const { return {heads[kv_head], tokens.num_positions()}; }
};
__device__ inline TokenPlace place_of_token(const AppendParams& p, int token) {
  const int row = row_of_token(p.token_offset, p.num_rows, token);
  const RowTokens tokens = row_tokens(p.token_offset, p.start, row);
  return {tokens, tokens.position_of(token), heads_of_row(p.heads, p.num_heads, row)};
}

}  // namespace flexgen
