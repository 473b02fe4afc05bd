// How busy a rank's resources were over a run's time, and rows and tokens over it: few readings, however long it takes.
//
// Readings are of counts that only grow, so that leaving out every other one loses nothing but detail. Thread-safety:
// none.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/fields.hpp"
#include "base/trace.hpp"

namespace flexgen {

/// Of one rank. Interval i lies between seconds[i] and seconds[i + 1].
struct ActivityReport {
  std::vector<double> seconds;  // [intervals + 1] since loading was over; the first is 0
  std::map<std::string, std::vector<double>>
      busy;                                 // by resource_name(): [intervals] 0 .. 1; those never busy are left out
  std::vector<std::uint64_t> rows, tokens;  // [intervals] done in it; rank 0's alone
  static constexpr auto fields() {
    return std::tuple(field("seconds", &ActivityReport::seconds), field("busy", &ActivityReport::busy),
                      field("rows", &ActivityReport::rows), field("tokens", &ActivityReport::tokens));
  }
};

class ActivitySeries {
 public:
  static constexpr std::size_t most_intervals = 400;
  static constexpr double least_interval_seconds = 0.05;

  /// Is the next reading worth taking.
  bool is_due(double seconds) const {
    return readings_.empty() || seconds >= readings_.back().seconds + interval_seconds_;
  }
  double interval_seconds() const { return interval_seconds_; }
  /// Times must not go backwards; the first one is the beginning.
  void add(double seconds, const TotalsByResource& totals, std::uint64_t num_rows, std::uint64_t num_tokens);

  /// The last reading: an interval that would be too short to say anything goes into the one before.
  void end(double seconds, const TotalsByResource& totals, std::uint64_t num_rows, std::uint64_t num_tokens);

  /// An operation is counted when it ends: what an interval cannot hold goes to those before it, where it ran.
  ActivityReport report() const;

 private:
  struct Reading {
    double seconds = 0;
    TotalsByResource totals{};
    std::uint64_t num_rows = 0, num_tokens = 0;
  };
  std::vector<double> busy_of(std::size_t resource) const;

  double interval_seconds_ = least_interval_seconds;
  std::vector<Reading> readings_;
};

}  // namespace flexgen
