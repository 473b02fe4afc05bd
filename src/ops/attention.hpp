// Causal attention of new tokens over a KV cache, ragged rows, and the append that precedes it.
//
// Shape chain: qkv [tokens, 3 * heads * head_dim] -> append k, v at each row's positions -> for token t of row r at
// position p: softmax(q . k[0..p] * scale) . v[0..p] -> out [tokens, heads * head_dim].
#pragma once

#include "ops/batch_view.hpp"
#include "ops/context.hpp"
#include "ops/matrix_view.hpp"

namespace flexgen {

/// Writes k and v of the new tokens into the cache. k, v: [tokens, heads * head_dim] (views into the fused qkv),
/// dtype of the cache.
void append_kv(const OpContext& context, const BatchView& batch, const MatrixView& k, const MatrixView& v,
               const KvView& cache);
void append_kv_reference(const BatchView& batch, const MatrixView& k, const MatrixView& v, const KvView& cache);

struct AttentionArgs {
  BatchView batch;
  MatrixView q;  // [tokens, heads * head_dim]
  KvView cache;  // holds positions 0 .. start+count-1 of every row, the new ones included; q's dtype
  float scale = 1.0F;
  MatrixView out;  // [tokens, heads * head_dim], q's dtype
};

/// Softmax and sums in float32. Scratch (split keys on the GPU) comes from the context's workspace:
/// at most attention_workspace_bytes.
void attention(const OpContext& context, const AttentionArgs& args);
void attention_reference(const AttentionArgs& args);

/// Upper bound of the scratch that `attention` takes for a micro-batch of these sizes on this device.
std::uint64_t attention_workspace_bytes(const Device& device, std::int64_t num_tokens, std::int64_t num_rows,
                                        std::int32_t num_heads, std::int32_t head_dim, DType dtype);

}  // namespace flexgen
