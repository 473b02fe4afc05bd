// Attention on the host: a streaming softmax over blocks of keys, read where they lie in the cache.
//
// Shape chain, per (row, head, block of queries): q [queries, dim] -> scores [queries, 64] = q . k -> weights ->
// sums [queries, dim] = sums * shrink + weights . v. Blocks of keys begin at multiples of 64 whatever the query, so
// a token's result has the same bits in a whole prompt, in a chunk of it, and in any batch. (From a compressed cache, a
// chunk of one token is computed by attention_decode_host.cpp, which rounds elsewhere.) Rows of one token are left to
// it. Source: Milakov and Gimelshein 2018 (online softmax); Dao et al. 2022 (blocks).
#include <algorithm>
#include <cstring>
#include <limits>

#include "ops/host/host_kernels.hpp"
#include "ops/host/host_ops.hpp"
#include "ops/host/scratch.hpp"
#include "ops/host/stored/stored_kernels.hpp"
#include "ops/parallel_for.hpp"
#include "ops/quantize.hpp"

namespace flexgen {
namespace {

constexpr std::int64_t kQueries = 64;   // per task
constexpr std::int64_t kWidenFrom = 9;  // queries from which widening keys and values once pays

thread_local Scratch thread_scratch;

/// One (row, head) and a run of its queries.
struct Task {
  KvHead kv;
  std::int64_t first_token = 0;     // packed row of the first query
  std::int64_t first_position = 0;  // its position
  std::int64_t num_queries = 0;
  std::int64_t first_col = 0;  // head * head_dim
};

class QueryBlock {
 public:
  QueryBlock(const AttentionArgs& args, const Task& task) : args_(args), task_(task), dim_(args.cache.head_dim) {
    const std::int64_t n = task.num_queries;
    const bool widen = (n >= kWidenFrom && args.q.dtype != DType::float32) || !args.cache.quant.is_none();
    float* memory = thread_scratch.floats(n * (2 * dim_ + kBlockKeys) + (widen ? 2 * kBlockKeys * dim_ : 0));
    q_ = memory;
    sums_ = q_ + n * dim_;
    score_ = sums_ + n * dim_;
    if (widen) widened_ = score_ + n * kBlockKeys;
  }

  void run() {
    const std::int64_t n = task_.num_queries;
    for (std::int64_t i = 0; i < n; ++i) {
      kernels_.to_float(element(args_.q, i), args_.q.dtype, q_ + i * dim_, dim_);
      state_[i] = {-std::numeric_limits<float>::infinity(), 0.0F};
    }
    std::fill(sums_, sums_ + n * dim_, 0.0F);
    const std::int64_t length = task_.first_position + n;
    for (std::int64_t first_key = 0; first_key < length; first_key += kBlockKeys)
      take_keys(first_key, std::min(kBlockKeys, length - first_key));
    for (std::int64_t i = 0; i < n; ++i) {
      float* sum = sums_ + i * dim_;
      for (std::int64_t d = 0; d < dim_; ++d) sum[d] /= state_[i].sum;
      kernels_.from_float(sum, element(args_.out, i), args_.out.dtype, dim_);
    }
  }

 private:
  std::byte* element(const MatrixView& view, std::int64_t query) const {
    const auto col = static_cast<std::uint64_t>(task_.first_col);
    return view.row(task_.first_token + query) + col * element_bytes(view.dtype);
  }

  /// Keys and values of a block, widened.
  void widen_block(std::int64_t first_key, std::int64_t num_keys) {
    const KvHead& kv = task_.kv;
    const QuantFormat& quant = args_.cache.quant;
    const auto bytes = quant.is_none() ? static_cast<std::int64_t>(element_bytes(args_.q.dtype)) : 1;
    for (std::int64_t j = 0; j < num_keys; ++j) {
      const std::byte* position = kv.base + (first_key + j) * kv.position_stride * bytes;
      float* k = widened_ + j * dim_;
      float* v = k + kBlockKeys * dim_;
      if (quant.is_none()) {
        kernels_.to_float(position, args_.q.dtype, k, dim_);
        kernels_.to_float(position + kv.v_offset * bytes, args_.q.dtype, v, dim_);
      } else {
        const StoredKernels& stored = stored_kernels();
        stored.decode(position, position + kv.k_parameters, quant, dim_, DType::float32,
                      reinterpret_cast<std::byte*>(k));
        stored.decode(position + kv.v_offset, position + kv.v_parameters, quant, dim_, DType::float32,
                      reinterpret_cast<std::byte*>(v));
      }
    }
  }

  void take_keys(std::int64_t first_key, std::int64_t num_keys) {
    const std::int64_t bytes = static_cast<std::int64_t>(element_bytes(args_.q.dtype));
    const std::byte* k = task_.kv.base + first_key * task_.kv.position_stride * bytes;
    const std::byte* v = k + task_.kv.v_offset * bytes;
    std::int64_t stride = task_.kv.position_stride;
    DType dtype = args_.q.dtype;
    if (widened_ != nullptr) {
      widen_block(first_key, num_keys);
      k = reinterpret_cast<const std::byte*>(widened_);
      v = reinterpret_cast<const std::byte*>(widened_ + kBlockKeys * dim_);
      stride = dim_;
      dtype = DType::float32;
    }
    // Queries before the block see none of it; the others see keys up to their own position.
    const std::int64_t skipped = std::max<std::int64_t>(0, first_key - task_.first_position);
    const std::int64_t n = task_.num_queries - skipped;
    kernels_.dots({q_ + skipped * dim_, dim_, k, stride, dtype, n, num_keys, dim_, score_, kBlockKeys, false});
    float shrink[kQueries];
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t seen = std::min(num_keys, task_.first_position + skipped + i + 1 - first_key);
      float* score = score_ + i * kBlockKeys;
      shrink[i] = kernels_.softmax_step(score, seen, args_.scale, &state_[skipped + i]);
      std::fill(score + seen, score + num_keys, 0.0F);
    }
    kernels_.weighted_sum(
        {score_, kBlockKeys, shrink, v, stride, dtype, n, dim_, num_keys, sums_ + skipped * dim_, dim_});
  }

  const AttentionArgs& args_;
  const Task& task_;
  const HostKernels& kernels_ = host_kernels();
  const std::int64_t dim_;
  float* q_ = nullptr;        // [queries, dim]
  float* sums_ = nullptr;     // [queries, dim]
  float* score_ = nullptr;    // [queries, kBlockKeys]
  float* widened_ = nullptr;  // k [kBlockKeys, dim], v [kBlockKeys, dim]; null: read in place
  SoftmaxState state_[kQueries];
};

/// One (row, head)'s new tokens, compressed.
void append_compressed(const BatchView& batch, const MatrixView& k, const MatrixView& v, const KvView& cache,
                       std::int64_t row, std::int64_t head) {
  const KvHead& kv = cache.host_heads[row * cache.num_heads + head];
  const std::uint64_t col = static_cast<std::uint64_t>(head * cache.head_dim) * element_bytes(k.dtype);
  float* wide = thread_scratch.floats(cache.head_dim);
  const std::int32_t first = batch.host_token_offset[row];
  for (std::int32_t t = first; t < batch.host_token_offset[row + 1]; ++t) {
    std::byte* position = kv.base + static_cast<std::int64_t>(batch.host_start[row] + t - first) * kv.position_stride;
    const auto encode = [&](const MatrixView& from, std::byte* codes, std::byte* parameters) {
      host_kernels().to_float(from.row(t) + col, from.dtype, wide, cache.head_dim);
      static_cast<void>(
          stored_kernels().encode(wide, cache.head_dim, cache.quant, cache_refinements, codes, parameters));
    };
    encode(k, position, position + kv.k_parameters);
    encode(v, position + kv.v_offset, position + kv.v_parameters);
  }
}

}  // namespace

void append_kv_host(const BatchView& batch, const MatrixView& k, const MatrixView& v, const KvView& cache) {
  const std::uint64_t bytes = element_bytes(k.dtype);
  const std::size_t run = static_cast<std::size_t>(cache.head_dim) * bytes;
  const std::int64_t elements = static_cast<std::int64_t>(batch.num_tokens) * k.cols;
  const std::int64_t num_tasks = static_cast<std::int64_t>(batch.num_rows) * cache.num_heads;
  parallel_for(num_tasks, elements > 65536, [&](std::int64_t task) {
    const std::int64_t row = task / cache.num_heads;
    if (!cache.quant.is_none()) return append_compressed(batch, k, v, cache, row, task % cache.num_heads);
    const std::uint64_t col = static_cast<std::uint64_t>(task % cache.num_heads) * run;
    const KvHead& kv = cache.host_heads[task];
    const std::int32_t first = batch.host_token_offset[row];
    for (std::int32_t t = first; t < batch.host_token_offset[row + 1]; ++t) {
      const std::int64_t position = batch.host_start[row] + t - first;
      std::byte* to = kv.base + position * kv.position_stride * static_cast<std::int64_t>(bytes);
      std::memcpy(to, k.row(t) + col, run);
      std::memcpy(to + kv.v_offset * static_cast<std::int64_t>(bytes), v.row(t) + col, run);
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
    const std::int64_t head = index % heads;
    const std::int64_t row = index / heads % batch.num_rows;
    const std::int64_t block = blocks - 1 - index / heads / batch.num_rows;  // the longest tasks first
    const std::int64_t count = batch.host_token_offset[row + 1] - batch.host_token_offset[row];
    const std::int64_t first = block * kQueries;
    if (first >= count || count == 1) return;
    Task task;
    task.kv = args.cache.host_heads[row * heads + head];
    task.first_token = batch.host_token_offset[row] + first;
    task.first_position = batch.host_start[row] + first;
    task.num_queries = std::min(kQueries, count - first);
    task.first_col = head * args.cache.head_dim;
    QueryBlock(args, task).run();
  });
}

}  // namespace flexgen
