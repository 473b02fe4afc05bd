// What a sweep of a stage moves and computes, counted from its memory plan: the amounts by which the roofline bounds a
// job and the cost model predicts it. Pure arithmetic.
#pragma once

#include <span>

#include "policy/memory_plan.hpp"
#include "policy/roofline.hpp"

namespace flexgen {

/// Operations and bytes.
struct Traffic {
  double operations = 0;
  double gpu_memory = 0;  // read and written there, but for weights
  double host_to_gpu = 0;
  double gpu_to_host = 0;
  double host_moved = 0;            // host memory read and written by DMA and copies
  double host_read = 0;             // by processors that compute, but for weights
  double cache_read = 0;            // of gpu_memory or, without a GPU, host_read: by attention on the device
  double cache_by_host = 0;         // of host_read: by attention on the host
  double attention_operations = 0;  // of operations
  double weight_reads = 0;          // by products, where the stage computes
  double disk_read = 0;
  double disk_write = 0;
  double network = 0;
};

/// Seconds; none where the rate is not known: what is not known bounds nothing.
inline double over(double amount, double rate) { return rate > 0 ? amount / rate : 0.0; }

/// Rows of one sweep, all alike.
struct SweepRows {
  double rows = 0;
  double start = 0;  // tokens of a row that are in the cache already
  double count = 0;  // new tokens of a row
  double micro_batches = 0;
  double outputs = 1;  // positions of a row whose logits are computed
  double shared = 0;   // of start: in the cache once for all rows of a micro-batch
  double tokens() const { return rows * count; }
};

/// Refers to the stage; planned once for all sweeps.
class StageTraffic {
 public:
  explicit StageTraffic(const StageInput& input);

  /// Of one sweep with rows of either kind.
  Traffic of(std::span<const SweepRows> kinds) const;
  /// Of the rows' attention alone, and of what it keeps.
  Traffic of_cache(const SweepRows& rows) const;
  const StageInput& stage() const { return *stage_; }
  const MemoryPlan& memory() const { return memory_; }

 private:
  struct TierParts {
    double dram = 0;
    double ssd = 0;
  };
  // Sums over the slice's weights.
  struct WeightSums {
    double operations = 0;           // of a token
    double head_operations = 0;      // of an output
    double reads = 0;                // bytes, of a micro-batch
    double looked_up = 0;            // of tables, of a token, on the device
    double looked_up_from_dram = 0;  // and over the link
  };

  bool on_gpu() const { return stage_->plan.on_gpu; }
  double element() const;
  WeightSums sum_up_weights() const;
  double attended_by_host(const SweepRows& sweep) const;
  void add_weights(std::span<const SweepRows> kinds, Traffic& t) const;
  void add_cache(const SweepRows& sweep, Traffic& t) const;
  void add_hidden(const SweepRows& sweep, Traffic& t) const;
  void bring(const TierParts& bytes, Traffic& t) const;
  void take_away(const TierParts& bytes, Traffic& t) const;

  const StageInput* stage_;
  MemoryPlan memory_;
  TierParts streamed_weights_;  // bytes per sweep
  TierParts cache_share_;       // 0 .. 1
  double cached_layers_ = 0;
  WeightSums weights_;
};

}  // namespace flexgen
