// Attention on the host: a streaming softmax over blocks of keys, read where they lie in the cache.
//
// Shape chain, per (row, head, block of queries): q [queries, dim] -> scores [queries, 64] = q . k -> weights ->
// sums [queries, dim] = sums * shrink + weights . v. Blocks of keys begin at multiples of 64 whatever the query, so
// a token's result has the same bits in a whole prompt, in a chunk of it, and in any batch. (From a compressed cache, a
// chunk of one token is computed by attention_decode_host.cpp, which rounds elsewhere.) Rows of one token are left to
// it. Source: Milakov and Gimelshein 2018 (online softmax); Dao et al. 2022 (blocks).
#include <algorithm>
#include <cstring>

#include "ops/cache_span.hpp"
#include "ops/host/host_kernels.hpp"
#include "ops/host/host_ops.hpp"
#include "ops/host/scratch.hpp"
#include "ops/host/stored/stored_kernels.hpp"
#include "ops/host_scratch.hpp"
#include "ops/parallel_for.hpp"
#include "ops/quantize.hpp"

namespace flexgen {
namespace {

constexpr std::int64_t kQueries = 64;   // per task
constexpr std::int64_t kWidenFrom = 9;  // queries from which widening keys and values once pays

/// Whether a block of keys and values is widened before so many queries meet it.
bool widens(std::int64_t queries, DType dtype, const QuantFormat& quant) {
  return (queries >= kWidenFrom && dtype != DType::float32) || !quant.is_none();
}
/// Queries, sums and scores, and keys and values that are widened.
std::int64_t query_block_floats(std::int64_t queries, std::int64_t dim, DType dtype, const QuantFormat& quant) {
  return queries * (2 * dim + kBlockKeys) + (widens(queries, dtype, quant) ? 2 * kBlockKeys * dim : 0);
}
/// A key or value on its way into a compressed cache.
std::int64_t appended_floats(std::int64_t dim) { return dim; }

/// One (row, head) and a run of its queries.
struct QueryTask {
  CacheSpan span;
  std::int64_t first_token = 0;     // packed row of the first query
  std::int64_t first_position = 0;  // its position
  std::int64_t num_queries = 0;
  std::int64_t first_col = 0;  // head * head_dim
};

class QueryBlock {
 public:
  QueryBlock(const AttentionArgs& args, const QueryTask& task) : args_(args), task_(task), dim_(args.cache.head_dim) {
    const std::int64_t n = task.num_queries;
    q_ = scratch_.floats(query_block_floats(n, dim_, args.q.dtype, args.cache.quant));
    sums_ = q_ + n * dim_;
    score_ = sums_ + n * dim_;
    if (widens(n, args.q.dtype, args.cache.quant)) widened_ = score_ + n * kBlockKeys;
  }

  void run() {
    const std::int64_t n = task_.num_queries;
    for (std::int64_t i = 0; i < n; ++i) {
      kernels_.to_float(element(args_.q, i), args_.q.dtype, q_ + i * dim_, dim_);
      state_[i] = kNothingSeen;
    }
    std::fill(sums_, sums_ + n * dim_, 0.0F);
    const VisibleRange seen = visible_range(position_of(0), position_of(n - 1));
    for (std::int64_t first_key = seen.first / kBlockKeys * kBlockKeys; first_key < seen.end; first_key += kBlockKeys)
      take_keys(first_key, std::min(kBlockKeys, seen.end - first_key));
    for (std::int64_t i = 0; i < n; ++i) {
      float* sum = sums_ + i * dim_;
      for (std::int64_t d = 0; d < dim_; ++d) sum[d] /= state_[i].weight;
      kernels_.from_float(sum, element(args_.out, i), args_.out.dtype, dim_);
    }
  }

 private:
  std::int32_t position_of(std::int64_t query) const { return static_cast<std::int32_t>(task_.first_position + query); }
  std::byte* element(const MatrixView& view, std::int64_t query) const {
    const auto col = static_cast<std::uint64_t>(task_.first_col);
    return view.row(task_.first_token + query) + col * element_bytes(view.dtype);
  }

  /// Keys and values of a block, widened.
  void widen_block(std::int64_t first_key, std::int64_t num_keys) {
    const CacheSpan& span = task_.span;
    const QuantFormat& quant = args_.cache.quant;
    for (std::int64_t j = 0; j < num_keys; ++j) {
      const std::int64_t position = first_key + j;
      float* k = widened_ + j * dim_;
      float* v = k + kBlockKeys * dim_;
      const std::byte* key = span.at(CachePart::keys, position, unit_bytes_);
      const std::byte* value = span.at(CachePart::values, position, unit_bytes_);
      if (quant.is_none()) {
        kernels_.to_float(key, args_.q.dtype, k, dim_);
        kernels_.to_float(value, args_.q.dtype, v, dim_);
      } else {
        const StoredKernels& stored = stored_kernels();
        stored.decode(key, span.parameters(CachePart::keys, position), quant, dim_, DType::float32,
                      reinterpret_cast<std::byte*>(k));
        stored.decode(value, span.parameters(CachePart::values, position), quant, dim_, DType::float32,
                      reinterpret_cast<std::byte*>(v));
      }
    }
  }

  void take_keys(std::int64_t first_key, std::int64_t num_keys) {
    const std::byte* k = task_.span.at(CachePart::keys, first_key, unit_bytes_);
    const std::byte* v = task_.span.at(CachePart::values, first_key, unit_bytes_);
    std::int64_t stride = task_.span.head.position_stride;
    DType dtype = args_.q.dtype;
    if (widened_ != nullptr) {
      widen_block(first_key, num_keys);
      k = reinterpret_cast<const std::byte*>(widened_);
      v = reinterpret_cast<const std::byte*>(widened_ + kBlockKeys * dim_);
      stride = dim_;
      dtype = DType::float32;
    }
    // Queries before the block see none of it; the others see keys up to their own position.
    std::int64_t skipped = 0;
    while (visible_range(position_of(skipped)).end <= first_key) ++skipped;
    const std::int64_t n = task_.num_queries - skipped;
    kernels_.dots({q_ + skipped * dim_, dim_, k, stride, dtype, n, num_keys, dim_, score_, kBlockKeys});
    float shrink[kQueries];
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t seen = std::min(num_keys, visible_range(position_of(skipped + i)).end - first_key);
      float* score = score_ + i * kBlockKeys;
      shrink[i] = kernels_.softmax_step(score, seen, args_.scale, &state_[skipped + i]);
      std::fill(score + seen, score + num_keys, 0.0F);
    }
    kernels_.weighted_sum(
        {score_, kBlockKeys, shrink, v, stride, dtype, n, dim_, num_keys, sums_ + skipped * dim_, dim_});
  }

  const AttentionArgs& args_;
  const QueryTask& task_;
  const HostKernels& kernels_ = host_kernels();
  const std::int64_t dim_;
  const std::int64_t unit_bytes_ = cache_unit_bytes(args_.cache.quant, args_.q.dtype);
  ScratchFrame scratch_;
  float* q_ = nullptr;        // [queries, dim]
  float* sums_ = nullptr;     // [queries, dim]
  float* score_ = nullptr;    // [queries, kBlockKeys]
  float* widened_ = nullptr;  // k [kBlockKeys, dim], v [kBlockKeys, dim]; null: read in place
  SoftmaxState state_[kQueries];
};

/// One (row, head)'s new tokens, compressed.
void append_compressed(const RowTokens& tokens, const MatrixView& k, const MatrixView& v, const KvView& cache,
                       const CacheSpan& span, std::int32_t head) {
  const std::uint64_t col = static_cast<std::uint64_t>(head) * cache.head_dim * element_bytes(k.dtype);
  ScratchFrame scratch;
  float* wide = scratch.floats(appended_floats(cache.head_dim));
  for (std::int32_t t = tokens.first_token; t < tokens.first_token + tokens.count; ++t) {
    const std::int64_t position = tokens.position_of(t);
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
    const CacheSpan span = span_of_kv_head(cache.host_heads, cache.num_heads, row, head, tokens);
    if (!cache.quant.is_none()) return append_compressed(tokens, k, v, cache, span, head);
    const std::uint64_t col = static_cast<std::uint64_t>(head) * run;
    for (std::int32_t t = tokens.first_token; t < tokens.first_token + tokens.count; ++t) {
      const std::int64_t position = tokens.position_of(t);
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
    const std::int64_t first = block * kQueries;
    if (first >= tokens.count || !tokens.is_prefill()) return;
    QueryTask task;
    task.span = span_of_query_head(args.cache.host_heads, args.cache.num_heads, row, head, tokens);
    task.first_token = tokens.first_token + first;
    task.first_position = tokens.start + first;
    task.num_queries = std::min(kQueries, tokens.count - first);
    task.first_col = static_cast<std::int64_t>(head) * args.cache.head_dim;
    QueryBlock(args, task).run();
  });
}

std::uint64_t attention_scratch_bytes(const AttentionSizes& most) {
  const std::int64_t appended = most.quant.is_none() ? 0 : appended_floats(most.head_dim);
  const std::int64_t block = query_block_floats(kQueries, most.head_dim, most.dtype, most.quant);
  return std::max(scratch_piece_bytes<float>(std::max(appended, block)), attention_decode_scratch_bytes(most));
}

}  // namespace flexgen
