// What rows of one new token have of the spans that they share, before they come to their own: the states of their
// softmax and the sums beside them, in the order in which attention_decode_host.cpp goes on.
//
// A span is read once for all its rows. A state does not end with a span: the next one, and then the row's own
// positions, go on where it stands, block by block. So every sum is of the same order as where nothing is shared.
#pragma once

#include <cstdint>

#include "ops/attention.hpp"
#include "ops/host/scratch.hpp"
#include "ops/host/stored/stored_kernels.hpp"
#include "ops/host_scratch.hpp"
#include "ops/softmax_merge.hpp"
#include "ops/thread_pool.hpp"

namespace flexgen {

class SharedStates {
 public:
  /// Room for all rows of the batch, in the caller's frame; none where nothing is shared.
  SharedStates(const AttentionArgs& args, ScratchFrame& scratch);

  /// Whether the row shares anything, and has one new token.
  bool has(std::int32_t row) const;
  SoftmaxState& state(std::int32_t row, std::int64_t head) const { return states_[row * num_heads_ + head]; }
  /// As StoredKernels keeps them: [floats()].
  float* sums(std::int32_t row, std::int64_t head) const { return sums_ + (row * num_heads_ + head) * floats_; }
  std::int64_t floats() const { return floats_; }

  static std::uint64_t bytes(const AttentionSizes& most);

 private:
  const AttentionArgs& args_;
  std::int64_t num_heads_;
  std::int64_t floats_;
  SoftmaxState* states_ = nullptr;
  float* sums_ = nullptr;
};

/// Fills the states of all rows that have some, on the threads of `pool` where `on_threads`.
void attend_shared_spans(const AttentionArgs& args, ThreadPool& pool, bool on_threads, const SharedStates& states);

/// Scratch of a thread that this takes, beside SharedStates::bytes of the caller's.
std::uint64_t shared_spans_scratch_bytes(const AttentionSizes& most);

/// One head as the stored kernels take it.
StoredHeads one_stored_head(DType dtype, const QuantFormat& quant, std::int64_t head_dim);

}  // namespace flexgen
