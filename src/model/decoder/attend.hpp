// Attention of tokens whose queries, keys and values are there, wherever it is done: the device's and the host's rows
// take the same way.
#pragma once

#include "ops/batch_view.hpp"
#include "ops/context.hpp"
#include "ops/matrix_view.hpp"
#include "spec/model_spec.hpp"

namespace flexgen {

/// All memory is of the context's device.
struct AttentionCall {
  BatchView batch;
  KvView cache;          // of the batch's rows
  MatrixView projected;  // [tokens, query_width + 2 * kv_width]: query, key and value
  MatrixView attended;   // [tokens, query_width], out
  float sparsity = 1;    // AttentionArgs::sparsity
};

/// Appends the tokens' keys and values to the cache; then every token attends to its row's positions up to its own.
/// Scratch comes from the context's workspace: at most attention_workspace_bytes.
void attend(const OpContext& context, const AttentionSpec& spec, const AttentionCall& call);

}  // namespace flexgen
