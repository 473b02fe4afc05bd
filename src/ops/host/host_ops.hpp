// The host implementations behind the entry points, to be called by these (and by tests) only.
// Arguments are checked already.
#pragma once

#include "ops/attention.hpp"
#include "ops/elementwise.hpp"
#include "ops/embedding.hpp"
#include "ops/layer_norm.hpp"
#include "ops/linear.hpp"
#include "ops/sampling.hpp"

namespace flexgen {

/// The weight may also be float32 whatever the dtype of x.
void linear_host(const LinearArgs& args);
void linear_compressed_host(const LinearArgs& args);
void layer_norm_host(const LayerNormArgs& args);
void gather_rows_host(const TableView& table, const std::int32_t* index, const MatrixView& out);
void add_gathered_rows_host(const TableView& table, const std::int32_t* index, const MatrixView& out);
void append_kv_host(const BatchView& batch, const MatrixView& k, const MatrixView& v, const KvView& cache);
void attention_host(const AttentionArgs& args);
void argmax_rows_host(const MatrixView& logits, std::int32_t* token);
void log_probabilities_host(const MatrixView& logits, const std::int32_t* target, float* score);
void sample_rows_host(const SampleRowsArgs& args);
void add_host(const MatrixView& x, const MatrixView& y, const MatrixView& out);

#ifdef FLEXGEN_HAS_TORCH
/// True when ATen beats our own loops for this product on this machine.
bool linear_prefers_torch(const LinearArgs& args);
/// linear on the host through ATen (MKL, oneDNN).
void linear_torch(const LinearArgs& args);
#endif

}  // namespace flexgen
