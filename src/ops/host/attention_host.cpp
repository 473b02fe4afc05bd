// Attention on the host: a streaming softmax over blocks of keys, read where they lie in the cache.
//
// A task is a (row, head, block of queries), see query_block.hpp. Blocks of keys begin at multiples of 64 whatever the
// query, so a token's result has the same bits in a whole prompt, in a chunk of it, and in any batch. (From a
// compressed cache, a chunk of one token is computed by attention_decode_host.cpp, which rounds elsewhere.) Rows of one
// token are left to it.
#include <algorithm>
#include <cstring>

#include "ops/cache_span.hpp"
#include "ops/host/host_kernels.hpp"
#include "ops/host/host_ops.hpp"
#include "ops/host/query_block.hpp"
#include "ops/host/scratch.hpp"
#include "ops/host/stored/stored_kernels.hpp"
#include "ops/host_scratch.hpp"
#include "ops/parallel_for.hpp"
#include "ops/quantize.hpp"

namespace flexgen {
namespace {

/// A key or value on its way into a compressed cache.
std::int64_t appended_floats(std::int64_t dim) { return dim; }

/// One (row, head) and a run of its queries.
struct QueryTask {
  RowTokens tokens;
  std::int32_t row = 0;
  std::int32_t head = 0;
  std::int32_t first = 0;  // of the row's new tokens, its first query
  std::int32_t num_queries = 0;
};

/// The row's shared spans, which every query sees whole; then its own positions up to each query's.
void attend(const AttentionArgs& args, const QueryTask& task) {
  const std::int32_t first_token = task.tokens.first_token + task.first;
  const auto position_of = [&](std::int64_t i) {
    return task.tokens.position_of(first_token + static_cast<std::int32_t>(i));
  };
  QueryBlock block(args, task.head, task.num_queries);
  for (std::int32_t i = 0; i < task.num_queries; ++i) block.take_query(i, first_token + i);
  const SharedSpans& shared = args.cache.shared;
  for (std::int32_t i = 0; i < shared.num_spans; ++i)
    if (shared.host_spans[i].has(task.row))
      block.take_shared(shared.host_spans[i], kv_head_of(task.head), 0, task.num_queries);

  const CacheSpan own =
      span_of_query_head(args.cache.host_heads, args.cache.num_heads, task.row, task.head, task.tokens);
  const std::int64_t own_begin = own_begin_on_host(args.cache, task.row);
  const VisibleRange seen = visible_range(position_of(0), position_of(task.num_queries - 1));
  std::int64_t first_key = std::max<std::int64_t>(own_begin, seen.first / kBlockKeys * kBlockKeys);
  for (; first_key < seen.end; first_key += kBlockKeys) {
    // Queries before the block see none of it; the others see keys up to their own position.
    const auto seen_of = [&](std::int64_t i) { return visible_range(position_of(i)).end - first_key; };
    std::int64_t skipped = 0;
    while (seen_of(skipped) <= 0) ++skipped;
    block.take_keys(own, first_key - own_begin, std::min(kBlockKeys, seen.end - first_key), skipped, task.num_queries,
                    seen_of);
  }
  for (std::int32_t i = 0; i < task.num_queries; ++i) block.finish(i, first_token + i);
}

/// One (row, head)'s new tokens, compressed.
void append_compressed(const RowTokens& tokens, const MatrixView& k, const MatrixView& v, const KvView& cache,
                       std::int32_t row, std::int32_t head) {
  const CacheSpan span = span_of_kv_head(cache.host_heads, cache.num_heads, row, head, tokens);
  const std::int64_t own_begin = own_begin_on_host(cache, row);
  const std::uint64_t col = static_cast<std::uint64_t>(head) * cache.head_dim * element_bytes(k.dtype);
  ScratchFrame scratch;
  float* wide = scratch.floats(appended_floats(cache.head_dim));
  for (std::int32_t t = tokens.first_token; t < tokens.first_token + tokens.count; ++t) {
    const std::int64_t position = tokens.position_of(t) - own_begin;
    const auto encode = [&](const MatrixView& from, std::byte* codes, std::byte* parameters) {
      host_kernels().to_float(from.row(t) + col, from.dtype, wide, cache.head_dim);
      static_cast<void>(
          stored_kernels().encode(wide, cache.head_dim, cache.quant, cache_refinements, codes, parameters));
    };
    encode(k, span.at(CachePart::keys, position, 1), span.parameters(CachePart::keys, position));
    encode(v, span.at(CachePart::values, position, 1), span.parameters(CachePart::values, position));
  }
}

}  // namespace

void append_kv_host(const BatchView& batch, const MatrixView& k, const MatrixView& v, const KvView& cache) {
  const std::int64_t unit_bytes = cache_unit_bytes(cache.quant, k.dtype);
  const std::size_t run = static_cast<std::size_t>(cache.head_dim) * element_bytes(k.dtype);
  const std::int64_t elements = static_cast<std::int64_t>(batch.num_tokens) * k.cols;
  const std::int64_t num_tasks = static_cast<std::int64_t>(batch.num_rows) * cache.num_heads;
  parallel_for(num_tasks, elements > 65536, [&](std::int64_t task) {
    const auto row = static_cast<std::int32_t>(task / cache.num_heads);
    const auto head = static_cast<std::int32_t>(task % cache.num_heads);
    const RowTokens tokens = row_tokens_on_host(batch, row);
    if (!cache.quant.is_none()) return append_compressed(tokens, k, v, cache, row, head);
    const CacheSpan span = span_of_kv_head(cache.host_heads, cache.num_heads, row, head, tokens);
    const std::int64_t own_begin = own_begin_on_host(cache, row);
    const std::uint64_t col = static_cast<std::uint64_t>(head) * run;
    for (std::int32_t t = tokens.first_token; t < tokens.first_token + tokens.count; ++t) {
      const std::int64_t position = tokens.position_of(t) - own_begin;
      std::memcpy(span.at(CachePart::keys, position, unit_bytes), k.row(t) + col, run);
      std::memcpy(span.at(CachePart::values, position, unit_bytes), v.row(t) + col, run);
    }
  });
}

void attention_host(const AttentionArgs& args) {
  const BatchView& batch = args.batch;
  attention_decode_host(args, loop_threads());
  if (batch.max_count <= 1) return;
  const std::int64_t heads = args.cache.num_heads;
  const std::int64_t blocks = (batch.max_count + kQueries - 1) / kQueries;  // of the row with most new tokens
  const std::int64_t width = heads * args.cache.head_dim;
  const std::int64_t work = width * batch.num_tokens * batch.max_length;
  parallel_for(batch.num_rows * blocks * heads, work > 65536, [&](std::int64_t index) {
    const auto head = static_cast<std::int32_t>(index % heads);
    const auto row = static_cast<std::int32_t>(index / heads % batch.num_rows);
    const std::int64_t block = blocks - 1 - index / heads / batch.num_rows;  // the longest tasks first
    const RowTokens tokens = row_tokens_on_host(batch, row);
    const auto first = static_cast<std::int32_t>(block * kQueries);
    if (first >= tokens.count || !tokens.is_prefill()) return;
    attend(args, {tokens, row, head, first, std::min(static_cast<std::int32_t>(kQueries), tokens.count - first)});
  });
}

std::uint64_t attention_scratch_bytes(const AttentionSizes& most) {
  const std::int64_t appended = most.quant.is_none() ? 0 : appended_floats(most.head_dim);
  const std::int64_t block = query_block_floats(kQueries, most.head_dim, most.dtype, most.quant);
  return std::max(scratch_piece_bytes<float>(std::max(appended, block)), attention_decode_scratch_bytes(most));
}

}  // namespace flexgen
