#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "ops/attention.hpp"
#include "ops/element_access.hpp"
#include "ops/quantize.hpp"
#include "ops/quantize_rows.hpp"

namespace flexgen {
namespace {

const KvHead& head_of(const KvView& cache, std::int32_t row, std::int32_t head) {
  return cache.host_heads[static_cast<std::int64_t>(row) * cache.num_heads + head];
}

/// Element d of the key (value) at position p, as stored.
float stored_key(const AttentionArgs& args, const KvHead& kv, std::int64_t p, std::int64_t d) {
  const std::int64_t at = p * kv.position_stride;
  if (args.cache.quant.is_none()) return load_element(kv.base, args.q.dtype, at + d);
  return stored_element(kv.base + at, kv.base + at + kv.k_parameters, args.cache.quant, d);
}
float stored_value(const AttentionArgs& args, const KvHead& kv, std::int64_t p, std::int64_t d) {
  const std::int64_t at = p * kv.position_stride;
  if (args.cache.quant.is_none()) return load_element(kv.base, args.q.dtype, at + kv.v_offset + d);
  return stored_element(kv.base + at + kv.v_offset, kv.base + at + kv.v_parameters, args.cache.quant, d);
}

/// Zeroes the weights that sparse attention leaves out: before the last, all but the `num_chosen` largest.
void keep_largest(std::vector<double>& weight, std::int64_t num_chosen) {
  std::vector<std::size_t> order(weight.size() - 1);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return weight[a] > weight[b]; });
  for (std::size_t i = static_cast<std::size_t>(num_chosen); i < order.size(); ++i) weight[order[i]] = 0.0;
}

/// out [head_dim] of one query: softmax over positions 0 .. last, all scores at hand at once.
void attend(const AttentionArgs& args, const KvHead& kv, std::int64_t token, std::int32_t head, std::int64_t last,
            float sparsity) {
  const DType dtype = args.q.dtype;
  const std::int64_t dim = args.cache.head_dim;
  std::vector<double> weight(static_cast<std::size_t>(last + 1));
  double maximum = -std::numeric_limits<double>::infinity();
  for (std::int64_t p = 0; p <= last; ++p) {
    double dot = 0.0;
    for (std::int64_t d = 0; d < dim; ++d)
      dot += static_cast<double>(load_element(args.q.row(token), dtype, head * dim + d)) * stored_key(args, kv, p, d);
    weight[static_cast<std::size_t>(p)] = dot * args.scale;
    maximum = std::max(maximum, dot * args.scale);
  }
  double sum = 0.0;
  for (double& w : weight) sum += w = std::exp(w - maximum);
  keep_largest(weight, num_chosen_positions(sparsity, last + 1));
  for (std::int64_t d = 0; d < dim; ++d) {
    double value = 0.0;
    for (std::int64_t p = 0; p <= last; ++p)
      if (sparsity >= 1.0F || weight[static_cast<std::size_t>(p)] != 0.0)
        value += weight[static_cast<std::size_t>(p)] * stored_value(args, kv, p, d);
    store_element(args.out.row(token), dtype, head * dim + d, static_cast<float>(value / sum));
  }
}

}  // namespace

void append_kv_reference(const BatchView& batch, const MatrixView& k, const MatrixView& v, const KvView& cache) {
  const std::int64_t dim = cache.head_dim;
  for (std::int32_t row = 0; row < batch.num_rows; ++row) {
    for (std::int32_t t = batch.host_token_offset[row]; t < batch.host_token_offset[row + 1]; ++t) {
      const std::int64_t position = batch.host_start[row] + t - batch.host_token_offset[row];
      for (std::int32_t head = 0; head < cache.num_heads; ++head) {
        const KvHead& kv = head_of(cache, row, head);
        if (!cache.quant.is_none()) {
          std::byte* to = kv.base + position * kv.position_stride;
          quantize_run_reference(k.row(t), k.dtype, head * dim, dim, cache.quant, cache_refinements, to,
                                 to + kv.k_parameters);
          quantize_run_reference(v.row(t), v.dtype, head * dim, dim, cache.quant, cache_refinements, to + kv.v_offset,
                                 to + kv.v_parameters);
          continue;
        }
        for (std::int64_t d = 0; d < dim; ++d) {
          const std::int64_t at = position * kv.position_stride + d;
          store_element(kv.base, k.dtype, at, load_element(k.row(t), k.dtype, head * dim + d));
          store_element(kv.base, v.dtype, kv.v_offset + at, load_element(v.row(t), v.dtype, head * dim + d));
        }
      }
    }
  }
}

void attention_reference(const AttentionArgs& args) {
  const BatchView& batch = args.batch;
  for (std::int32_t row = 0; row < batch.num_rows; ++row) {
    for (std::int32_t t = batch.host_token_offset[row]; t < batch.host_token_offset[row + 1]; ++t) {
      const std::int64_t position = batch.host_start[row] + t - batch.host_token_offset[row];
      const bool one = batch.host_token_offset[row + 1] - batch.host_token_offset[row] == 1;
      for (std::int32_t head = 0; head < args.cache.num_heads; ++head)
        attend(args, head_of(args.cache, row, head), t, head, position, one ? args.sparsity : 1.0F);
    }
  }
}

}  // namespace flexgen
