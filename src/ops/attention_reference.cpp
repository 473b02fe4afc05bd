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

/// Where position p of a row lies: a part of its cache, and the position in it.
struct Place {
  CacheSpan span;
  std::int64_t position = 0;
};

Place place_of(const KvView& cache, std::int32_t row, std::int32_t kv_head, const RowTokens& tokens, std::int64_t p) {
  const SharedSpans& shared = cache.shared;
  for (std::int32_t i = 0; i < shared.num_spans; ++i)
    if (const SharedSpan& span = shared.host_spans[i]; span.has(row) && p >= span.begin && p < span.begin + span.length)
      return {span_of_shared(cache, span, kv_head), p - span.begin};
  return {span_of_kv_head(cache.host_heads, cache.num_heads, row, kv_head, tokens), p - own_begin_on_host(cache, row)};
}

/// Element d of a key (value), as stored.
float stored_key(const AttentionArgs& args, const Place& at, std::int64_t d) {
  const QuantFormat& quant = args.cache.quant;
  const std::byte* key = at.span.at(CachePart::keys, at.position, cache_unit_bytes(quant, args.q.dtype));
  return quant.is_none() ? load_element(key, args.q.dtype, d)
                         : stored_element(key, at.span.parameters(CachePart::keys, at.position), quant, d);
}
float stored_value(const AttentionArgs& args, const Place& at, std::int64_t d) {
  const QuantFormat& quant = args.cache.quant;
  const std::byte* value = at.span.at(CachePart::values, at.position, cache_unit_bytes(quant, args.q.dtype));
  return quant.is_none() ? load_element(value, args.q.dtype, d)
                         : stored_element(value, at.span.parameters(CachePart::values, at.position), quant, d);
}

/// Zeroes the weights that sparse attention leaves out: before the last, all but the `num_chosen` largest.
void keep_largest(std::vector<double>& weight, std::int32_t num_chosen) {
  std::vector<std::size_t> order(weight.size() - 1);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return weight[a] > weight[b]; });
  for (std::size_t i = static_cast<std::size_t>(num_chosen); i < order.size(); ++i) weight[order[i]] = 0.0;
}

/// out [head_dim] of one query: softmax over the positions that it sees, all scores at hand at once.
void attend(const AttentionArgs& args, std::int32_t row, std::int64_t token, std::int32_t head, float sparsity) {
  const DType dtype = args.q.dtype;
  const std::int64_t dim = args.cache.head_dim;
  const RowTokens tokens = row_tokens_on_host(args.batch, row);
  const VisibleRange seen = visible_range(tokens.position_of(static_cast<std::int32_t>(token)));
  std::vector<Place> place;
  for (std::int32_t p = seen.first; p < seen.end; ++p)
    place.push_back(place_of(args.cache, row, kv_head_of(head), tokens, p));
  std::vector<double> weight(place.size());  // of position seen.first + i
  double maximum = -std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < place.size(); ++i) {
    double dot = 0.0;
    for (std::int64_t d = 0; d < dim; ++d)
      dot +=
          static_cast<double>(load_element(args.q.row(token), dtype, head * dim + d)) * stored_key(args, place[i], d);
    weight[i] = dot * args.scale;
    maximum = std::max(maximum, weight[i]);
  }
  double sum = 0.0;
  for (double& w : weight) sum += w = std::exp(w - maximum);
  if (sparsity < 1.0F) keep_largest(weight, num_chosen_positions(sparsity, seen));
  for (std::int64_t d = 0; d < dim; ++d) {
    double value = 0.0;
    for (std::size_t i = 0; i < place.size(); ++i)
      if (sparsity >= 1.0F || weight[i] != 0.0) value += weight[i] * stored_value(args, place[i], d);
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
        append(k, v, cache, span, t, head, tokens.position_of(t) - own_begin_on_host(cache, row));
    }
  }
}

void attention_reference(const AttentionArgs& args) {
  for (std::int32_t row = 0; row < args.batch.num_rows; ++row) {
    const RowTokens tokens = row_tokens_on_host(args.batch, row);
    const float sparsity = tokens.is_decode() ? args.sparsity : 1.0F;
    for (std::int32_t head = 0; head < args.cache.num_heads; ++head)
      for (std::int32_t t = tokens.first_token; t < tokens.first_token + tokens.count; ++t)
        attend(args, row, t, head, sparsity);
  }
}

}  // namespace flexgen
