// Causal attention of new tokens over a KV cache, ragged rows, and the append that precedes it.
//
// Shape chain: qkv [tokens, 3 * heads * head_dim] -> append k, v at each row's positions -> for token t of row r at
// position p: softmax(q . k[0..p] * scale) . v[0..p] -> out [tokens, heads * head_dim].
// Sparse attention as in FlexGen (Sheng et al. 2023, section 4.3): of the weights that the softmax gives the positions
// before the new one, the largest floor(sparsity * their number) and that of the new one meet their values, as they
// are, without being scaled up to a sum of 1.
// Rows that begin alike may keep that once (SharedSpans): a decode step then reads it once for all of them.
#pragma once

#include "ops/attention_sizes.hpp"
#include "ops/batch_view.hpp"
#include "ops/context.hpp"
#include "ops/matrix_view.hpp"

namespace flexgen {

class ThreadPool;

/// Writes k and v of the new tokens into the cache. k, v: [tokens, heads * head_dim] (views into the fused qkv),
/// dtype of the cache; compressed with `cache_refinements` where the cache is.
void append_kv(const OpContext& context, const BatchView& batch, const MatrixView& k, const MatrixView& v,
               const KvView& cache);
void append_kv_reference(const BatchView& batch, const MatrixView& k, const MatrixView& v, const KvView& cache);

struct AttentionArgs {
  BatchView batch;
  MatrixView q;  // [tokens, heads * head_dim]
  KvView cache;  // holds positions 0 .. start+count-1 of every row, the new ones included; q's dtype
  float scale = 1.0F;
  MatrixView out;  // [tokens, heads * head_dim], q's dtype
  /// Below 1: rows of one new token read only its value and those of the num_chosen_positions largest weights before
  /// it, ties to the lower position.
  float sparsity = 1.0F;
};

/// Softmax and sums in float32. What rows share gives every row the bits that it would give where the row had it for
/// itself, but for
///   - a compressed cache's single tokens of a prompt;
///   - single tokens on a GPU in float16 and bfloat16, head_dim a multiple of 8 up to 128: a span is attended once for
///     all of its rows on tensor cores, weights rounded to the dtype as those of a prompt are, codes dequantized to it,
///     and merged with the row's own part. Results differ in the last bits of the dtype then, but not by how many rows
///     a span has, nor by which.
/// Sparse attention knows no shared spans. Scratch (split keys and spans on the GPU) comes from the context's
/// workspace: at most attention_workspace_bytes.
void attention(const OpContext& context, const AttentionArgs& args);
void attention_reference(const AttentionArgs& args);

/// `attention` on host memory for rows that have one new token each (others are left alone), at the speed of memory, on
/// the threads of `pool` and the caller's. Any thread; takes nothing from a workspace.
void attention_decode_host(const AttentionArgs& args, ThreadPool& pool);

/// Upper bound of the scratch that `attention` takes from the workspace for a micro-batch of at most these sizes on
/// this device.
std::uint64_t attention_workspace_bytes(const Device& device, const AttentionSizes& most);

}  // namespace flexgen
