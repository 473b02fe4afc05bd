#include "ops/attention.hpp"

#include <span>

#include "ops/dispatch.hpp"
#include "ops/host/host_ops.hpp"
#include "ops/quantize_rows.hpp"
#include "spec/block_limits.hpp"
#ifdef FLEXGEN_HAS_CUDA
#include "ops/cuda/cuda_kernels.hpp"
#endif

namespace flexgen {
namespace {

void check_spans(const OpContext& context, const BatchView& batch, const SharedSpans& shared) {
  if (shared.num_spans == 0) return;
  FLEXGEN_CHECK(shared.host_spans != nullptr && shared.host_own_begin != nullptr && shared.host_heads != nullptr,
                "attention: the shared spans have no tables");
  FLEXGEN_CHECK(
      !context.device.is_cuda() || (shared.spans != nullptr && shared.own_start != nullptr && shared.heads != nullptr &&
                                    shared.row_spans.first != nullptr && shared.host_row_spans.first != nullptr),
      "attention: the shared spans have no tables on the device");
  for (const SharedSpan& span : std::span(shared.host_spans, static_cast<std::size_t>(shared.num_spans)))
    FLEXGEN_CHECK(span.begin % prefix_grain == 0 && span.length % prefix_grain == 0 && span.first_row >= 0 &&
                      span.num_rows > 0 && span.first_row + span.num_rows <= batch.num_rows,
                  "attention: a shared span is not of whole grains, or of other rows");
}

void check(const OpContext& context, const BatchView& batch, const KvView& cache) {
  FLEXGEN_CHECK(cache.num_heads > 0 && cache.head_dim > 0, "attention: the cache has no heads");
  if (!cache.quant.is_none()) check_format(cache.quant);
  FLEXGEN_CHECK(cache.quant.is_none() || cache.head_dim <= 2048, "attention: compressed heads are too wide");
  FLEXGEN_CHECK(batch.num_rows == 0 || (cache.heads != nullptr && cache.host_heads != nullptr),
                "attention: the cache has no table of heads");
  FLEXGEN_CHECK(batch.num_rows == 0 || (batch.host_token_offset != nullptr && batch.host_start != nullptr &&
                                        batch.token_offset != nullptr && batch.start != nullptr),
                "attention: the batch has no offsets");
  check_spans(context, batch, cache.shared);
}

}  // namespace

void append_kv(const OpContext& context, const BatchView& batch, const MatrixView& k, const MatrixView& v,
               const KvView& cache) {
  check(context, batch, cache);
  const std::int64_t width = static_cast<std::int64_t>(cache.num_heads) * cache.head_dim;
  check_view(k, batch.num_tokens, width, k.dtype, "append_kv: k");
  check_view(v, batch.num_tokens, width, k.dtype, "append_kv: v");
  if (batch.num_tokens == 0) return;
  switch (choose_implementation(context, "append_kv")) {
    case Implementation::reference: append_kv_reference(batch, k, v, cache); return;
    case Implementation::host: append_kv_host(batch, k, v, cache); return;
    case Implementation::cuda:
#ifdef FLEXGEN_HAS_CUDA
      append_kv_cuda(context, batch, k, v, cache);
#endif
      return;
  }
}

void attention(const OpContext& context, const AttentionArgs& args) {
  check(context, args.batch, args.cache);
  const std::int64_t width = static_cast<std::int64_t>(args.cache.num_heads) * args.cache.head_dim;
  check_view(args.q, args.batch.num_tokens, width, args.q.dtype, "attention: q");
  check_view(args.out, args.batch.num_tokens, width, args.q.dtype, "attention: out");
  FLEXGEN_CHECK(args.sparsity > 0.0F && args.sparsity <= 1.0F, "attention: the sparsity lies outside (0, 1]");
  FLEXGEN_CHECK(args.sparsity == 1.0F || args.cache.shared.num_spans == 0,
                "attention: it is sparse, and rows share spans");
  if (args.batch.num_tokens == 0) return;
  switch (choose_implementation(context, "attention")) {
    case Implementation::reference: attention_reference(args); return;
    case Implementation::host: attention_host(args); return;
    case Implementation::cuda:
#ifdef FLEXGEN_HAS_CUDA
      attention_cuda(context, args);
#endif
      return;
  }
}

}  // namespace flexgen
