// How a job stands at a moment, as the progress line and the metrics show it. Plain data.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/trace.hpp"
#include "job/live_counts.hpp"

namespace flexgen {

enum class JobPhase : std::uint8_t { loading, running, done };

/// Memory of one tier, of rank 0.
struct TierFigures {
  std::uint64_t capacity_bytes = 0, used_bytes = 0, peak_bytes = 0;
};

struct LiveFigures {
  std::string version, command, model;
  JobPhase phase = JobPhase::loading;
  int num_ranks = 1;
  double run_seconds = 0;  // since loading was over
  LiveValues counts;
  double recent_tokens_per_second = 0;  // of the last ten seconds
  std::optional<Resource> busiest;      // rank 0's in the last ten seconds; none: nothing was busy
  double busiest_fraction = 0;          // of that time, 0 .. 1
  TotalsByResource resources{};         // rank 0's, loading included
  std::array<TierFigures, 3> tiers{};   // gpu, dram, ssd

  /// Since the run began.
  double tokens_per_second() const { return run_seconds > 0 ? static_cast<double>(counts.tokens) / run_seconds : 0; }
  /// At the pace of the run so far; none while nothing is done or the work's size is unknown.
  std::optional<double> eta_seconds() const {
    const std::optional<double> share = counts.done_share();
    if (phase != JobPhase::running || !share || *share <= 0 || run_seconds <= 0) return std::nullopt;
    return run_seconds * (1 - *share) / *share;
  }
};

inline constexpr std::array<std::string_view, 3> live_tier_names{"gpu", "dram", "ssd"};

}  // namespace flexgen
