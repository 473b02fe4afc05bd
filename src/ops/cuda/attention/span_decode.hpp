// Attention of single tokens over what their rows share: launch of span_kernel. Plain C++; the rules of
// cuda_kernels.hpp hold.
#pragma once

#include "ops/batch_view.hpp"
#include "ops/context.hpp"
#include "spec/dtype.hpp"

namespace flexgen {

struct DecodeParams;

/// The rows of a batch for which parts are computed: p's tables begin with the first.
struct SpanRows {
  int first;
  int count;
};

/// Computes p.parts: of every row of count 1 among `rows` and each piece of its spans, once for all rows of a span.
/// float16 and bfloat16 on tensor cores, head_dim a multiple of 8 up to 128, on boundaries of 16 bytes; compressed
/// caches as compressed_decode_takes wants them. `shared`: of the batch.
void attend_spans(const OpContext& context, const DecodeParams& p, DType dtype, const SharedSpans& shared,
                  const SpanRows& rows);

}  // namespace flexgen
