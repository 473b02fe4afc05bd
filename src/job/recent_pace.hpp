// What a job did in the last ten seconds: tokens, and which resource was busiest. From counts that only grow.
//
// Thread-safety: none.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "base/trace.hpp"

namespace flexgen {

class RecentPace {
 public:
  /// Times must not go backwards.
  void add(double seconds, std::uint64_t num_tokens, const TotalsByResource& totals);

  /// 0 before there are two readings.
  double tokens_per_second() const;
  struct Busiest {
    Resource resource{};
    double fraction = 0;  // of the time, 0 .. 1
  };
  /// The resource that was in use longest; none while none was. An operation counts when it ends.
  std::optional<Busiest> busiest() const;

 private:
  struct Reading {
    double seconds = 0;
    std::uint64_t num_tokens = 0;
    TotalsByResource totals{};
  };
  double span_seconds() const {
    return readings_.size() < 2 ? 0 : readings_.back().seconds - readings_.front().seconds;
  }

  std::deque<Reading> readings_;  // the last may be replaced: those before are half a second apart
};

}  // namespace flexgen
