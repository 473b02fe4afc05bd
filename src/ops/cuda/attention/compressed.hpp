// The pieces of attention over a compressed cache that attention.cu and append.cu put together. Plain C++; the rules of
// cuda_kernels.hpp hold. Groups are 32, 64 or 128 long.
#pragma once

#include <cstdint>

#include "ops/batch_view.hpp"
#include "ops/context.hpp"
#include "ops/matrix_view.hpp"

namespace flexgen {

/// append_kv of a compressed cache. head_dim up to 512.
void append_compressed_kv(const OpContext& context, const BatchView& batch, const MatrixView& k, const MatrixView& v,
                          const KvView& cache);

/// Dequantizes the cache of those of `rows` that have count > 1 into `plain` [rows][slot_positions][2][heads][head_dim]
/// of `dtype`, what they share included, and writes the table of heads [rows, heads] that leads there. slot_positions:
/// the longest of those rows.
void dequantize_cache(const OpContext& context, const BatchView& rows, const KvView& cache, DType dtype,
                      std::int32_t slot_positions, KvHead* plain_heads, std::byte* plain);

/// The kernel for single tokens takes float16 and bfloat16, head_dim a multiple of 16 up to 128, codes on boundaries of
/// 8 bytes, and a GPU with asynchronous copies and enough shared memory.
bool compressed_decode_takes(const OpContext& context, const BatchView& batch, const KvView& cache);
struct DecodeParams;
/// `p` as for decode_kernel with as many splits as p.max_splits; the caller combines them. With parts of spans
/// (p.parts) as SpanUse::merged.
void attend_compressed_tokens(const OpContext& context, const DecodeParams& p, DType dtype, const KvView& cache);

}  // namespace flexgen
