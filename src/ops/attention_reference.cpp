#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "ops/attention.hpp"
#include "ops/cache_span.hpp"
#include "ops/element_access.hpp"
#include "ops/quantize.hpp"
#include "ops/quantize_rows.hpp"

namespace flexgen {
namespace {

/// Element d of the key (value) at position p, as stored.
float stored_key(const AttentionArgs& args, const CacheSpan& span, std::int64_t p, std::int64_t d) {
  const QuantFormat& quant = args.cache.quant;
  const std::byte* key = span.at(CachePart::keys, p, cache_unit_bytes(quant, args.q.dtype));
  return quant.is_none() ? load_element(key, args.q.dtype, d)
                         : stored_element(key, span.parameters(CachePart::keys, p), quant, d);
}
float stored_value(const AttentionArgs& args, const CacheSpan& span, std::int64_t p, std::int64_t d) {
  const QuantFormat& quant = args.cache.quant;
  const std::byte* value = span.at(CachePart::values, p, cache_unit_bytes(quant, args.q.dtype));
  return quant.is_none() ? load_element(value, args.q.dtype, d)
                         : stored_element(value, span.parameters(CachePart::values, p), quant, d);
}

/// Zeroes the weights that sparse attention leaves out: before the last, all but the `num_chosen` largest.
void keep_largest(std::vector<double>& weight, std::int32_t num_chosen) {
  std::vector<std::size_t> order(weight.size() - 1);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return weight[a] > weight[b]; });
  for (std::size_t i = static_cast<std::size_t>(num_chosen); i < order.size(); ++i) weight[order[i]] = 0.0;
}

/// out [head_dim] of one query: softmax over the positions that it sees, all scores at hand at once.
void attend(const AttentionArgs& args, const CacheSpan& span, std::int64_t token, std::int32_t head, VisibleRange seen,
            float sparsity) {
  const DType dtype = args.q.dtype;
  const std::int64_t dim = args.cache.head_dim;
  std::vector<double> weight(static_cast<std::size_t>(seen.length()));  // of position seen.first + i
  const auto of = [&](std::int64_t p) -> double& { return weight[static_cast<std::size_t>(p - seen.first)]; };
  double maximum = -std::numeric_limits<double>::infinity();
  for (std::int64_t p = seen.first; p < seen.end; ++p) {
    double dot = 0.0;
    for (std::int64_t d = 0; d < dim; ++d)
      dot += static_cast<double>(load_element(args.q.row(token), dtype, head * dim + d)) * stored_key(args, span, p, d);
    of(p) = dot * args.scale;
    maximum = std::max(maximum, dot * args.scale);
  }
  double sum = 0.0;
  for (double& w : weight) sum += w = std::exp(w - maximum);
  if (sparsity < 1.0F) keep_largest(weight, num_chosen_positions(sparsity, seen));
  for (std::int64_t d = 0; d < dim; ++d) {
    double value = 0.0;
    for (std::int64_t p = seen.first; p < seen.end; ++p)
      if (sparsity >= 1.0F || of(p) != 0.0) value += of(p) * stored_value(args, span, p, d);
    store_element(args.out.row(token), dtype, head * dim + d, static_cast<float>(value / sum));
  }
}

/// Writes the k and v of one new token, head `head` of them, to its position.
void append(const MatrixView& k, const MatrixView& v, const KvView& cache, const CacheSpan& span, std::int64_t token,
            std::int32_t head, std::int64_t position) {
  const std::int64_t dim = cache.head_dim, unit_bytes = cache_unit_bytes(cache.quant, k.dtype);
  std::byte* key = span.at(CachePart::keys, position, unit_bytes);
  std::byte* value = span.at(CachePart::values, position, unit_bytes);
  if (!cache.quant.is_none()) {
    quantize_run_reference(k.row(token), k.dtype, head * dim, dim, cache.quant, cache_refinements, key,
                           span.parameters(CachePart::keys, position));
    quantize_run_reference(v.row(token), v.dtype, head * dim, dim, cache.quant, cache_refinements, value,
                           span.parameters(CachePart::values, position));
    return;
  }
  for (std::int64_t d = 0; d < dim; ++d) {
    store_element(key, k.dtype, d, load_element(k.row(token), k.dtype, head * dim + d));
    store_element(value, v.dtype, d, load_element(v.row(token), v.dtype, head * dim + d));
  }
}

}  // namespace

void append_kv_reference(const BatchView& batch, const MatrixView& k, const MatrixView& v, const KvView& cache) {
  for (std::int32_t row = 0; row < batch.num_rows; ++row) {
    const RowTokens tokens = row_tokens_on_host(batch, row);
    for (std::int32_t head = 0; head < cache.num_heads; ++head) {
      const CacheSpan span = span_of_kv_head(cache.host_heads, cache.num_heads, row, head, tokens);
      for (std::int32_t t = tokens.first_token; t < tokens.first_token + tokens.count; ++t)
        append(k, v, cache, span, t, head, tokens.position_of(t));
    }
  }
}

void attention_reference(const AttentionArgs& args) {
  for (std::int32_t row = 0; row < args.batch.num_rows; ++row) {
    const RowTokens tokens = row_tokens_on_host(args.batch, row);
    const float sparsity = tokens.is_decode() ? args.sparsity : 1.0F;
    for (std::int32_t head = 0; head < args.cache.num_heads; ++head) {
      const CacheSpan span = span_of_query_head(args.cache.host_heads, args.cache.num_heads, row, head, tokens);
      for (std::int32_t t = tokens.first_token; t < tokens.first_token + tokens.count; ++t)
        attend(args, span, t, head, visible_range(tokens.position_of(t)), sparsity);
    }
  }
}

}  // namespace flexgen
