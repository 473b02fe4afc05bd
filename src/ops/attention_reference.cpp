#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "ops/attention.hpp"
#include "ops/element_access.hpp"

namespace flexgen {
namespace {

const KvHead& head_of(const KvView& cache, std::int32_t row, std::int32_t head) {
  return cache.host_heads[static_cast<std::int64_t>(row) * cache.num_heads + head];
}

/// out [head_dim] of one query: softmax over positions 0 .. last, all scores at hand at once.
void attend(const AttentionArgs& args, const KvHead& kv, std::int64_t token, std::int32_t head, std::int64_t last) {
  const DType dtype = args.q.dtype;
  const std::int64_t dim = args.cache.head_dim;
  std::vector<double> weight(static_cast<std::size_t>(last + 1));
  double maximum = -std::numeric_limits<double>::infinity();
  for (std::int64_t p = 0; p <= last; ++p) {
    double dot = 0.0;
    for (std::int64_t d = 0; d < dim; ++d)
      dot += static_cast<double>(load_element(args.q.row(token), dtype, head * dim + d)) *
             load_element(kv.base, dtype, p * kv.position_stride + d);
    weight[static_cast<std::size_t>(p)] = dot * args.scale;
    maximum = std::max(maximum, dot * args.scale);
  }
  double sum = 0.0;
  for (double& w : weight) sum += w = std::exp(w - maximum);
  for (std::int64_t d = 0; d < dim; ++d) {
    double value = 0.0;
    for (std::int64_t p = 0; p <= last; ++p)
      value +=
          weight[static_cast<std::size_t>(p)] * load_element(kv.base, dtype, kv.v_offset + p * kv.position_stride + d);
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
      for (std::int32_t head = 0; head < args.cache.num_heads; ++head)
        attend(args, head_of(args.cache, row, head), t, head, position);
    }
  }
}

}  // namespace flexgen
