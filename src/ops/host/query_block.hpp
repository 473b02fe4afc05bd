// Queries of one head that meet the same keys: a streaming softmax over blocks of keys, read where they lie in the
// cache.
//
// Shape chain, per block of keys: q [queries, dim] -> scores [queries, 64] = q . k -> weights -> sums [queries, dim] =
// sums * shrink + weights . v. What comes out for a query depends on the keys that it sees and on how they are cut into
// blocks, never on the queries beside it. Lives within one call of an op; its memory is its thread's scratch.
// Source: Milakov and Gimelshein 2018 (online softmax); Dao et al. 2022 (blocks).
#pragma once

#include <algorithm>
#include <cstdint>

#include "ops/attention.hpp"
#include "ops/cache_span.hpp"
#include "ops/host/host_kernels.hpp"
#include "ops/host/scratch.hpp"
#include "ops/host/stored/stored_kernels.hpp"

namespace flexgen {

inline constexpr std::int64_t kQueries = 64;   // of a block
inline constexpr std::int64_t kWidenFrom = 9;  // queries from which widening keys and values once pays

/// Whether keys and values are widened before so many queries meet them.
inline bool widens(std::int64_t queries, DType dtype, const QuantFormat& quant) {
  return (queries >= kWidenFrom && dtype != DType::float32) || !quant.is_none();
}
/// Queries, sums and scores, and keys and values that are widened.
inline std::int64_t query_block_floats(std::int64_t queries, std::int64_t dim, DType dtype, const QuantFormat& quant) {
  return queries * (2 * dim + kBlockKeys) + (widens(queries, dtype, quant) ? 2 * kBlockKeys * dim : 0);
}

class QueryBlock {
 public:
  /// Of head `head`, at most kQueries of them.
  QueryBlock(const AttentionArgs& args, std::int32_t head, std::int64_t num_queries)
      : args_(args), dim_(args.cache.head_dim), first_col_(head * args.cache.head_dim) {
    q_ = scratch_.floats(query_block_floats(num_queries, dim_, args.q.dtype, args.cache.quant));
    sums_ = q_ + num_queries * dim_;
    score_ = sums_ + num_queries * dim_;
    if (widens(num_queries, args.q.dtype, args.cache.quant)) widened_ = score_ + num_queries * kBlockKeys;
  }

  /// Query i is that of packed row `token`, and has seen nothing.
  void take_query(std::int64_t i, std::int64_t token) {
    kernels_.to_float(element(args_.q, token), args_.q.dtype, q_ + i * dim_, dim_);
    state_[i] = kNothingSeen;
    std::fill(sums_ + i * dim_, sums_ + (i + 1) * dim_, 0.0F);
  }

  /// Queries first .. end - 1 meet `num_keys` keys, at most kBlockKeys, from position `first_key` of the span on.
  /// @param seen  of query i: how many of them it sees, at least one
  template <class Seen>
  void take_keys(const CacheSpan& span, std::int64_t first_key, std::int64_t num_keys, std::int64_t first,
                 std::int64_t end, const Seen& seen) {
    const std::byte* k = span.at(CachePart::keys, first_key, unit_bytes_);
    const std::byte* v = span.at(CachePart::values, first_key, unit_bytes_);
    std::int64_t stride = span.head.position_stride;
    DType dtype = args_.q.dtype;
    if (widened_ != nullptr) {
      widen(span, first_key, num_keys);
      k = reinterpret_cast<const std::byte*>(widened_);
      v = reinterpret_cast<const std::byte*>(widened_ + kBlockKeys * dim_);
      stride = dim_;
      dtype = DType::float32;
    }
    const std::int64_t n = end - first;
    kernels_.dots({q_ + first * dim_, dim_, k, stride, dtype, n, num_keys, dim_, score_, kBlockKeys});
    float shrink[kQueries];
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t of_query = std::min(num_keys, seen(first + i));
      float* score = score_ + i * kBlockKeys;
      shrink[i] = kernels_.softmax_step(score, of_query, args_.scale, &state_[first + i]);
      std::fill(score + of_query, score + num_keys, 0.0F);
    }
    kernels_.weighted_sum(
        {score_, kBlockKeys, shrink, v, stride, dtype, n, dim_, num_keys, sums_ + first * dim_, dim_});
  }

  /// All of a shared span.
  void take_shared(const SharedSpan& shared, std::int32_t kv_head, std::int64_t first, std::int64_t end) {
    const CacheSpan span = span_of_shared(args_.cache, shared, kv_head);
    for (std::int64_t key = 0; key < shared.length; key += kBlockKeys)
      take_keys(span, key, kBlockKeys, first, end, [](std::int64_t) { return kBlockKeys; });
  }

  /// Writes what packed row `token` attended.
  void finish(std::int64_t i, std::int64_t token) {
    float* sum = sums_ + i * dim_;
    for (std::int64_t d = 0; d < dim_; ++d) sum[d] /= state_[i].weight;
    kernels_.from_float(sum, element(args_.out, token), args_.out.dtype, dim_);
  }

  /// What query i has seen so far, and its sums [dim].
  const SoftmaxState& state(std::int64_t i) const { return state_[i]; }
  const float* sums(std::int64_t i) const { return sums_ + i * dim_; }

 private:
  std::byte* element(const MatrixView& view, std::int64_t token) const {
    return view.row(token) + static_cast<std::uint64_t>(first_col_) * element_bytes(view.dtype);
  }

  void widen(const CacheSpan& span, std::int64_t first_key, std::int64_t num_keys) {
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

  const AttentionArgs& args_;
  const HostKernels& kernels_ = host_kernels();
  const std::int64_t dim_;
  const std::int64_t first_col_;  // head * head_dim
  const std::int64_t unit_bytes_ = cache_unit_bytes(args_.cache.quant, args_.q.dtype);
  ScratchFrame scratch_;
  float* q_ = nullptr;        // [queries, dim]
  float* sums_ = nullptr;     // [queries, dim]
  float* score_ = nullptr;    // [queries, kBlockKeys]
  float* widened_ = nullptr;  // k [kBlockKeys, dim], v [kBlockKeys, dim]; null: read in place
  SoftmaxState state_[kQueries];
};

}  // namespace flexgen
