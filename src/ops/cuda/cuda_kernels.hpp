// The GPU implementations behind the ops' dispatch. Plain C++: callers need neither nvcc nor CUDA headers.
//
// Every function only enqueues kernels on context.stream: it allocates nothing, waits for nothing, and throws
// SystemError when a launch is refused. Views point into memory of context.device, which must be current for the
// calling thread. Shapes, dtypes and aliasing rules are those of the op's public header; a view of the wrong dtype or
// size throws InternalError.
#pragma once

#include <cstdint>

#include "ops/attention.hpp"
#include "ops/batch_view.hpp"
#include "ops/context.hpp"
#include "ops/elementwise.hpp"
#include "ops/embedding.hpp"
#include "ops/layer_norm.hpp"
#include "ops/linear.hpp"
#include "ops/matrix_view.hpp"
#include "ops/sampling.hpp"

namespace flexgen {

/// Any hidden size; gamma and beta have x's dtype.
void layer_norm_cuda(const OpContext& context, const LayerNormArgs& args);

/// Up to 16 tokens in float16 or bfloat16, inputs a multiple of 64, no more than 32 outputs per multiprocessor, rows on
/// 16-byte boundaries, a GPU with asynchronous copies and 192 KiB of shared memory: a kernel bound by reading weights.
/// They must not be what the kernel before in the stream writes (cuda_dependency.cuh).
bool linear_few_tokens_takes(const OpContext& context, const LinearArgs& args);
void linear_few_tokens_cuda(const OpContext& context, const LinearArgs& args);

/// Compressed weights: up to 32 tokens in float16 or bfloat16, inputs a multiple of 512 / bits, rows on 16-byte
/// boundaries, a GPU with asynchronous copies and 80 KiB of shared memory or, in float16, with 40 KiB. The weights must
/// not be what the kernel before in the stream writes.
bool linear_compressed_takes(const OpContext& context, const LinearArgs& args);
void linear_compressed_cuda(const OpContext& context, const LinearArgs& args);

/// Any shape; groups of 32, 64 or 128, compressed rows on boundaries of 8 bytes. Written by dependent launch
/// (cuda_dependency.cuh): a kernel right behind it must wait before it reads `to`.
void dequantize_rows_cuda(const OpContext& context, const MatrixView& from, const MatrixView& to);

/// out[r] = table[index[r]], or table[r] where index is null; table is compressed.
void gather_compressed_rows(const OpContext& context, const TableView& table, const std::int32_t* index,
                            const MatrixView& out);

/// The table may be compressed.
void gather_rows_cuda(const OpContext& context, const TableView& table, const std::int32_t* index,
                      const MatrixView& out);
void add_gathered_rows_cuda(const OpContext& context, const TableView& table, const std::int32_t* index,
                            const MatrixView& out);
void add_cuda(const OpContext& context, const MatrixView& x, const MatrixView& y, const MatrixView& out);
void copy_bytes_cuda(const OpContext& context, const std::byte* from, std::byte* to, std::uint64_t count);
void argmax_rows_cuda(const OpContext& context, const MatrixView& logits, std::int32_t* token);
void log_probabilities_cuda(const OpContext& context, const MatrixView& logits, const std::int32_t* target,
                            float* score);
void sample_rows_cuda(const OpContext& context, const SampleRowsArgs& args);
void append_kv_cuda(const OpContext& context, const BatchView& batch, const MatrixView& k, const MatrixView& v,
                    const KvView& cache);

/// Picks a kernel for each row by the row's own count and length alone, so that a row's result does not depend on
/// the rows beside it:
///   count == 1                         decode kernel, long rows split over the key axis
///   count > 1, fp16 or bf16 (sm_80+)   tensor-core kernel, head_dim a multiple of 8 up to 128
///   count > 1, anything else           decode kernel, one block per (token, head)
/// What rows share is read where it lies, by the same kernels and in the same order; but float16 and bfloat16 rows of
/// count 1 with a head_dim of the tensor cores' have a span attended once for all of them, and merge that with their
/// own part, whatever the number of rows. A compressed cache (groups of 32, 64 or 128) is read as it is by a decode
/// kernel of its own; rows of count > 1 are dequantized in the workspace first. What these do not take (float32, a
/// head_dim that is no multiple of 16 or beyond 128) is the general kernel's. A head_dim that 16-byte loads cannot
/// cover (20 in fp16), one wider than 512 bytes, or unaligned memory sends the whole call to the general kernel
/// (head_dim up to 2048).
void attention_cuda(const OpContext& context, const AttentionArgs& args);

/// For tests and benchmarks: the decode kernel for all tokens and the general kernel, past the choice above.
enum class AttentionKernel : std::uint8_t { automatic, per_token, general };
void attention_cuda_with(const OpContext& context, const AttentionArgs& args, AttentionKernel kernel);

}  // namespace flexgen
