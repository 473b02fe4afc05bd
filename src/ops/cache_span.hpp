// What a token attends and where it lies: the one description of it for the reference and for the kernels of the host
// and the GPU, for prompts and single tokens, plain and compressed caches.
//
//   row                     -> RowTokens     its new tokens, and their positions
//   token at a position     -> VisibleRange  the positions that it attends
//   row, head of a query    -> CacheSpan     where keys and values of the row's positions lie
//
// Plain data and arithmetic on tables of the caller; any thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ops/batch_view.hpp"
#include "ops/host_device.hpp"
#include "spec/dtype.hpp"

namespace flexgen {

/// The new tokens of a row: packed rows first_token .. first_token + count - 1, at positions start .. .
struct RowTokens {
  std::int32_t first_token = 0;
  std::int32_t count = 0;
  std::int32_t start = 0;

  /// One new token: its attention is bound by memory. (The only token of a prompt is computed like that, too.)
  FLEXGEN_HOST_DEVICE bool is_decode() const { return count == 1; }
  /// Several, whose attention is bound by arithmetic.
  FLEXGEN_HOST_DEVICE bool is_prefill() const { return count > 1; }
  /// Of packed row `token`.
  FLEXGEN_HOST_DEVICE std::int32_t position_of(std::int32_t token) const { return start + (token - first_token); }
  /// In the cache, the new ones included.
  FLEXGEN_HOST_DEVICE std::int32_t num_positions() const { return start + count; }
};

/// token_offset [rows + 1] and start [rows]: those of a BatchView, of the side that calls.
FLEXGEN_HOST_DEVICE RowTokens row_tokens(const std::int32_t* token_offset, const std::int32_t* start,
                                         std::int32_t row) {
  const std::int32_t first = token_offset[row];
  return {first, token_offset[row + 1] - first, start[row]};
}
inline RowTokens row_tokens_on_host(const BatchView& batch, std::int32_t row) {
  return row_tokens(batch.host_token_offset, batch.host_start, row);
}

/// Positions first .. end - 1 of a row.
struct VisibleRange {
  std::int32_t first = 0;
  std::int32_t end = 0;

  FLEXGEN_HOST_DEVICE std::int32_t length() const { return end - first; }
};

/// What the token at `position` attends: all positions up to its own.
FLEXGEN_HOST_DEVICE VisibleRange visible_range(std::int32_t position) { return {0, position + 1}; }
/// What some of the tokens at positions first .. last attend.
FLEXGEN_HOST_DEVICE VisibleRange visible_range(std::int32_t first, std::int32_t last) {
  return {visible_range(first).first, visible_range(last).end};
}

/// Sparse attention (sparsity below 1): how many of the positions before the token's own, which is the last of those in
/// sight, the values are read of.
FLEXGEN_HOST_DEVICE std::int32_t num_chosen_positions(float sparsity, VisibleRange seen) {
  return static_cast<std::int32_t>(sparsity * static_cast<float>(seen.length() - 1));
}

/// The head of the cache that head `query_head` of the queries attends: each has its own.
FLEXGEN_HOST_DEVICE std::int32_t kv_head_of(std::int32_t query_head) { return query_head; }

/// A row's part [num_heads] of a KvView's table of heads.
FLEXGEN_HOST_DEVICE const KvHead* heads_of_row(const KvHead* heads, std::int32_t num_heads, std::int32_t row) {
  return heads + static_cast<std::int64_t>(row) * num_heads;
}

/// What strides and offsets of a KvHead count: bytes of an element, or of a compressed cache single bytes.
inline std::int64_t cache_unit_bytes(const QuantFormat& quant, DType dtype) {
  return quant.is_none() ? static_cast<std::int64_t>(element_bytes(dtype)) : 1;
}

enum class CachePart : std::uint8_t { keys, values };

/// Where the keys and values of a row's positions 0 .. num_positions - 1 lie for one head, or those of a part of it
/// that lies for itself (SharedSpans): positions count from the part's own beginning. `unit_bytes`: see
/// cache_unit_bytes. Parameters are of compressed caches only, whose unit is a byte.
struct CacheSpan {
  KvHead head;
  std::int32_t num_positions = 0;

  /// From one position to the next.
  FLEXGEN_HOST_DEVICE std::int64_t position_bytes(std::int64_t unit_bytes) const {
    return head.position_stride * unit_bytes;
  }
  /// From a position's beginning.
  FLEXGEN_HOST_DEVICE std::int64_t offset_bytes(CachePart part, std::int64_t unit_bytes) const {
    return (part == CachePart::values ? head.v_offset : 0) * unit_bytes;
  }
  FLEXGEN_HOST_DEVICE std::int64_t parameter_offset(CachePart part) const {
    return part == CachePart::values ? head.v_parameters : head.k_parameters;
  }
  FLEXGEN_HOST_DEVICE std::byte* at(CachePart part, std::int64_t position, std::int64_t unit_bytes) const {
    return head.base + position * position_bytes(unit_bytes) + offset_bytes(part, unit_bytes);
  }
  FLEXGEN_HOST_DEVICE std::byte* parameters(CachePart part, std::int64_t position) const {
    return head.base + position * position_bytes(1) + parameter_offset(part);
  }
};

/// For what is written: head `kv_head` of the cache. `heads`: the table of the side that calls.
FLEXGEN_HOST_DEVICE CacheSpan span_of_kv_head(const KvHead* heads, std::int32_t num_heads, std::int32_t row,
                                              std::int32_t kv_head, const RowTokens& tokens) {
  return {heads_of_row(heads, num_heads, row)[kv_head], tokens.num_positions()};
}
/// For what is attended: by head `query_head` of the queries.
FLEXGEN_HOST_DEVICE CacheSpan span_of_query_head(const KvHead* heads, std::int32_t num_heads, std::int32_t row,
                                                 std::int32_t query_head, const RowTokens& tokens) {
  return span_of_kv_head(heads, num_heads, row, kv_head_of(query_head), tokens);
}

/// The row's first position that it does not share.
inline std::int32_t own_begin_on_host(const KvView& cache, std::int32_t row) {
  return cache.shared.num_spans > 0 ? cache.shared.host_own_begin[row] : 0;
}
/// Head `kv_head` of what rows share.
inline CacheSpan span_of_shared(const KvView& cache, const SharedSpan& shared, std::int32_t kv_head) {
  return {heads_of_row(cache.shared.host_heads, cache.num_heads, shared.run)[kv_head], shared.length};
}

}  // namespace flexgen
