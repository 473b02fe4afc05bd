// One rank's part of a job: its slice of the model on its device, and the sweeps that pass through it.
//
// Rank 0 announces every sweep to the other stages and collects the tokens; the others serve. One thread calls it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "base/trace.hpp"
#include "comm/transport.hpp"
#include "engine/slice_executor.hpp"
#include "engine/stage_memory.hpp"
#include "model/layer.hpp"
#include "schedule/sweep_runner.hpp"

namespace flexgen {

struct StageConfig {
  StagePlan plan;
  Budgets budgets;
  Device device;
  Backend backend = Backend::native;
  std::shared_ptr<WeightSource> source;
  std::filesystem::path offload_dir;
  Transport* transport = nullptr;  // null: the only stage
  bool keep_trace_events = false;
  /// Last stage: sees the logits of every micro-batch, beside the plan's memory; from a stream's thread. May be empty.
  LogitsSink on_logits;
  /// Sees every sweep before this stage runs its part; on the thread that calls it. May be empty.
  std::function<void(const SweepWork&)> on_sweep;
  /// Told of an error before it unwinds, from any thread: other ranks must hear of it, or they wait for ever.
  std::function<void(std::exception_ptr)> on_error;
};

class Stage final : public SweepRunner {
 public:
  /// Takes all memory and reads the slice's weights.
  explicit Stage(StageConfig config);
  ~Stage() override;

  /// Rank 0: has every stage run this sweep, and runs its own part. Returns once its work is under way.
  void run(const SweepWork& work) override;
  /// Rank 0: waits for the tokens of all micro-batches of the oldest sweep not yet collected, in order of k.
  std::vector<SampledTokens> collect(std::size_t num_micro_batches) override;
  /// Between sweeps of the only stage: waits until all that is under way is done, and counted by the tracer.
  void settle();
  /// Rank 0: no more sweeps.
  void finish() override;
  /// Other ranks: runs sweeps as they are announced, until rank 0 finishes.
  void serve();

  const StagePlan& plan() const { return config_.plan; }
  const Device& device() const { return config_.device; }
  Tracer& tracer() { return tracer_; }
  double load_seconds() const { return load_seconds_; }
  /// Of that: taking and pinning host memory.
  double pinning_seconds() const { return pinning_seconds_; }
  const WaitTimes& waits() const { return waits_; }
  double sweep_seconds() const { return static_cast<double>(sweep_ns_) / 1e9; }
  /// What this stage holds of a tier, and held at most.
  const TierBudget& budget(TierKind tier) const { return memory_->tiers.budget(tier); }

 private:
  void run_own_part(const SweepWork& work);
  void finish_own_part();
  void guarded(const std::function<void()>& body);
  void push_tokens(SampledTokens tokens);
  void push_error(const std::exception_ptr& error);
  bool is_alone() const { return config_.transport == nullptr || config_.transport->world_size() == 1; }

  StageConfig config_;
  Tracer tracer_;
  WaitTimes waits_;
  Layers layers_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<SampledTokens> tokens_;  // of a stage that is first and last
  std::exception_ptr error_;
  std::unique_ptr<StageMemory> memory_;
  std::unique_ptr<Neighbours> neighbours_;
  std::unique_ptr<SliceExecutor> executor_;
  bool first_weights_loaded_ = false;
  double load_seconds_ = 0;
  double pinning_seconds_ = 0;
  std::uint64_t sweep_ns_ = 0;
};

}  // namespace flexgen
