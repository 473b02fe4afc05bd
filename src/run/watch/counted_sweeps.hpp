// A runner that passes sweeps on to another, and counts those that are done.
//
// Refers to both, and to what it tells. Thread-safety: as the runner.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <utility>
#include <vector>

#include "job/live_counts.hpp"
#include "schedule/sweep_runner.hpp"

namespace flexgen {

class CountedSweeps final : public SweepRunner {
 public:
  /// @param on_collected  told that a sweep's tokens are there; may be empty
  CountedSweeps(SweepRunner& runner, LiveCounts& counts, std::function<void()> on_collected = {})
      : runner_(runner), counts_(counts), on_collected_(std::move(on_collected)) {}

  void run(const SweepWork& work) override {
    prompt_tokens_.push_back(static_cast<std::uint64_t>(work.num_prompt_tokens()));
    runner_.run(work);
  }
  std::vector<SampledTokens> collect(std::size_t num_micro_batches) override {
    std::vector<SampledTokens> tokens = runner_.collect(num_micro_batches);
    if (on_collected_) on_collected_();
    counts_.add_sweep(prompt_tokens_.front());
    prompt_tokens_.pop_front();
    return tokens;
  }
  void finish() override { runner_.finish(); }

 private:
  SweepRunner& runner_;
  LiveCounts& counts_;
  std::function<void()> on_collected_;
  std::deque<std::uint64_t> prompt_tokens_;  // of the sweeps under way, in their order
};

}  // namespace flexgen
