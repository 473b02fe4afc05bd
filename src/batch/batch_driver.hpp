// Rank 0's part: turns rows into sweeps and tokens into finished rows, with as many blocks in flight as stages.
//
// The loop alone: which rows enter a block (admission), what of them a sweep brings (sweep_building) and what becomes
// of its outputs (output_reader) are asked of others. Refers to its runner, which knows no rows. Single-threaded.
#pragma once

#include <cstdint>
#include <vector>

#include "batch/admission.hpp"
#include "batch/block.hpp"
#include "batch/row_source.hpp"
#include "batch/waiting_rows.hpp"
#include "schedule/sweep_runner.hpp"
#include "spec/block_limits.hpp"
#include "spec/policy.hpp"

namespace flexgen {

/// Sweeps of one kind, together.
struct SweepTotals {
  double seconds = 0;
  std::int64_t num_sweeps = 0;
  std::int64_t num_rows = 0;  // a row counts in every sweep that brings it
  std::int64_t num_prompt_tokens = 0;
  std::int64_t num_decode_tokens = 0;
};

/// Of a sweep all rows read their prompts, or none does, or some do.
struct PhaseTimes {
  SweepTotals prefill, decode, mixed;
};

/// Positions of the cache, of all slots.
struct CacheUse {
  std::int64_t num_positions = 0;
  std::int64_t most_held = 0;  // by sequences, at a time
};

class BatchDriver {
 public:
  /// @param eos_tokens  any of them ends a row that stops at it
  BatchDriver(SweepRunner& runner, const BlockShape& shape, const BlockLimits& limits,
              std::vector<std::int32_t> eos_tokens);

  /// Runs all rows to their end, or until it should stop, and tells the runner to finish. Once in a driver's life.
  /// Throws what rows or callbacks throw, when the sweeps under way have ended and the runner has finished: others that
  /// it works with have lost nothing. An InternalError, and what the runner throws, comes at once.
  void run(RowSource& rows, const RowCallbacks& callbacks);

  /// From the next sweep that is made on: tokens of a micro-batch, from B up to the limit with which it began, for
  /// which the stages have memory. May be called by what it runs. The rows' tokens stay what they are.
  void limit_tokens(std::int32_t num_tokens);

  const PhaseTimes& times() const { return times_; }
  const CacheUse& cache_use() const { return cache_use_; }
  /// Tokens of prompts that no sweep has read, because others had them in common.
  std::int64_t num_saved_tokens() const { return num_saved_tokens_; }

 private:
  struct Group {
    Block block;
    SweepWork work;  // in flight
    bool in_flight = false;
  };

  bool make_work(Group& group, WaitingRows& waiting);
  bool anything_follows(WaitingRows& waiting) const;
  void count_held();
  void count_time(const SweepWork& work);
  void count_saved(const MicroBatchWork& batch);

  SweepRunner& runner_;
  std::int32_t least_tokens_, most_tokens_;  // that num_tokens_ may be
  std::int32_t num_tokens_;                  // of a micro-batch in a sweep
  std::vector<std::int32_t> eos_tokens_;
  Beginnings beginnings_;
  Admission admission_;
  std::vector<Group> groups_;
  std::vector<std::int64_t> in_flight_;  // sequences, by group
  std::int64_t num_sweeps_ = 0;
  PhaseTimes times_;
  CacheUse cache_use_;
  std::int64_t num_saved_tokens_ = 0;
  std::uint64_t last_ns_ = 0;
};

}  // namespace flexgen
