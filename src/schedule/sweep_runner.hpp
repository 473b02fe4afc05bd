// What turns rows into sweeps asks of what runs them: start a sweep, collect what it gives, end. The engine's stage is
// one; a test answers from a script.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "schedule/work_list.hpp"

namespace flexgen {

/// What one micro-batch of a sweep gave, in the order of its rows' outputs (RowWork::num_outputs).
struct SampledTokens {
  std::int64_t sweep = 0;        // SweepWork::number
  std::int32_t micro_batch = 0;  // its place in SweepWork::micro_batches
  /// One per output: the choice, greedy where its row has no RowChoice, or the prompt's own token where alternatives to
  /// that are wanted; -1: a logit was no number.
  std::vector<std::int32_t> tokens;
  std::vector<float> scores;  // log-probability of the token that stands there; empty where none was wanted
  std::int32_t max_top = 0;   // alternatives of an output, at most
  std::vector<std::int32_t> top_tokens =
      {};                              // [outputs, max_top] the likeliest in its place, in their order; -1: no more
  std::vector<float> top_scores = {};  // their log-probabilities
};

/// Called from one thread. Several sweeps may be under way; each is of a group of its own, and they are collected in
/// the order in which they were started.
class SweepRunner {
 public:
  virtual ~SweepRunner() = default;

  /// Starts a sweep; returns once its work is under way. The list is read during the call alone.
  virtual void run(const SweepWork& work) = 0;
  /// Waits for the oldest sweep that is not yet collected, of that many micro-batches; gives them in their order.
  virtual std::vector<SampledTokens> collect(std::size_t num_micro_batches) = 0;
  /// No more sweeps: waits for what is still under way.
  virtual void finish() = 0;
};

}  // namespace flexgen
