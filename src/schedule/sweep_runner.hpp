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
  std::int64_t sweep = 0;            // SweepWork::number
  std::int32_t micro_batch = 0;      // its place in SweepWork::micro_batches
  std::vector<std::int32_t> tokens;  // greedy choice, one per output; -1: a logit was no number
  std::vector<float> scores;         // log-probability of the token that stands there; empty where none was wanted
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
