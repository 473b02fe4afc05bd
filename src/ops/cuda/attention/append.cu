// Writes new keys and values into the cache: one block per token.
#include <algorithm>

#include "ops/cuda/attention/compressed.hpp"
#include "ops/cuda/attention/params.cuh"
#include "ops/cuda/cuda_dependency.cuh"
#include "ops/cuda/cuda_kernels.hpp"
#include "ops/cuda/cuda_launch.cuh"

namespace flexgen {
namespace {

constexpr int kThreads = 256;

struct PlainAppendParams : AppendParams {
  int head_units;  // Units per head
  int element_bytes;
};

/// Unit: what a thread moves at a time, uint4 where everything is aligned, else 2 bytes.
template <typename Unit>
__global__ void __launch_bounds__(kThreads) append_kernel(const PlainAppendParams p) {
  start_dependents_after_predecessor();
  const int token = blockIdx.x;
  const TokenPlace place = place_of_token(p, token);
  const auto* k = reinterpret_cast<const Unit*>(p.k + token * p.k_stride_bytes);
  const auto* v = reinterpret_cast<const Unit*>(p.v + token * p.v_stride_bytes);
  for (int i = threadIdx.x; i < p.num_heads * p.head_units; i += blockDim.x) {
    const CacheSpan span = place.span(i / p.head_units);
    auto* key = reinterpret_cast<Unit*>(span.at(CachePart::keys, place.position, p.element_bytes));
    auto* value = reinterpret_cast<Unit*>(span.at(CachePart::values, place.position, p.element_bytes));
    key[i % p.head_units] = k[i];
    value[i % p.head_units] = v[i];
  }
}

}  // namespace

void append_kv_cuda(const OpContext& context, const BatchView& batch, const MatrixView& k, const MatrixView& v,
                    const KvView& cache) {
  const std::int64_t cols = static_cast<std::int64_t>(cache.num_heads) * cache.head_dim;
  FLEXGEN_CHECK(k.dtype == v.dtype && k.cols == cols && v.cols == cols, "append_kv: k and v are heads * head_dim wide");
  FLEXGEN_CHECK(k.rows == batch.num_tokens && v.rows == batch.num_tokens, "append_kv: k and v hold one row per token");
  if (batch.num_tokens == 0 || cols == 0) return;
  if (!cache.quant.is_none()) return append_compressed_kv(context, batch, k, v, cache);
  const std::uint64_t size = element_bytes(k.dtype);
  const bool vectors = cache.head_dim * size % 16 == 0 && rows_aligned(k) && rows_aligned(v) &&
                       cache_aligned(cache, batch.num_rows, size);
  PlainAppendParams p{append_params(batch, k, v, cache)};
  p.head_units = static_cast<int>(cache.head_dim * size / (vectors ? 16 : 2));
  p.element_bytes = static_cast<int>(size);
  const unsigned blocks = grid_extent(batch.num_tokens);
  const int threads = std::clamp((p.num_heads * p.head_units + 31) / 32 * 32, 32, kThreads);
  if (vectors) {
    launch_dependent(context, append_kernel<uint4>, blocks, threads, p, "launch of append_kernel");
  } else {
    launch_dependent(context, append_kernel<std::uint16_t>, blocks, threads, p, "launch of append_kernel");
  }
}

}  // namespace flexgen
