// What every attention kernel is given, and what every kernel that appends to the cache is.
#pragma once

#include "ops/attention.hpp"
#include "ops/cache_span.hpp"
#include "ops/cuda/cuda_launch.cuh"

namespace flexgen {

/// What rows share (SharedSpans), in memory of the device; all null where they share nothing.
struct SpanTables {
  const SharedSpan* spans;
  RowSpans rows;
  const KvHead* heads;  // [runs, num_heads]
  const std::int32_t* own_start;

  /// As seen from row `first` on.
  __host__ SpanTables from_row(std::int32_t first) const {
    return {spans, {rows.first + first, rows.index}, heads, own_start + first};
  }
};

inline SpanTables span_tables(const SharedSpans& shared) {
  if (shared.num_spans == 0) return {};
  return {shared.spans, shared.row_spans, shared.heads, shared.own_start};
}

/// Positions begin .. end - 1 of a row, which lie together: position p is p - begin of them.
struct RowPart {
  const KvHead* heads;  // [num_heads]
  int begin;
  int end;
};

/// The part of a row that has `position`. Parts begin at multiples of prefix_grain. heads [num_rows, num_heads]: of
/// what is the rows' own.
template <bool kSpans>
__device__ inline RowPart part_of(const KvHead* heads, const SpanTables& shared, int num_heads, int row,
                                  const RowTokens& tokens, int position) {
  if constexpr (kSpans) {
    const int own_begin = tokens.start - shared.own_start[row];
    if (position >= own_begin) return {heads_of_row(heads, num_heads, row), own_begin, tokens.num_positions()};
    const std::int32_t* index = shared.rows.index + shared.rows.first[row];
    while (position >= shared.spans[*index].begin + shared.spans[*index].length) ++index;
    const SharedSpan& span = shared.spans[*index];
    return {heads_of_row(shared.heads, num_heads, span.run), span.begin, span.begin + span.length};
  } else {
    return {heads_of_row(heads, num_heads, row), 0, tokens.num_positions()};
  }
}

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
  SpanTables shared;
};

inline QueryParams query_params(const AttentionArgs& args) {
  constexpr float kLog2E = 1.4426950408889634F;
  return {args.batch.token_offset,
          args.batch.start,
          args.cache.heads,
          args.q.data,
          args.out.data,
          args.q.row_stride,
          args.out.row_stride,
          args.cache.num_heads,
          args.cache.head_dim,
          args.scale * kLog2E,
          span_tables(args.cache.shared)};
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
  const std::int32_t* start;         // [num_rows], in what is the row's own
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
  const std::int32_t* start = cache.shared.num_spans > 0 ? cache.shared.own_start : batch.start;
  return {batch.token_offset,  start,          cache.heads,    k.data, v.data, k.row_stride * size,
          v.row_stride * size, batch.num_rows, cache.num_heads};
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
