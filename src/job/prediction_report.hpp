// What a job was predicted to take, and how its first sweeps did beside that: parts of its report. Plain data.
#pragma once

#include <cstdint>
#include <string>

#include "base/fields.hpp"

namespace flexgen {

/// What the cost model makes of the job that ran: its policy, and as many rows with as many tokens.
struct PredictedReport {
  double seconds = 0;  // of all sweeps
  double tokens_per_second = 0;
  double sweeps = 0;  // of each block in flight
  int rank = 0;       // the slowest stage
  std::string binding_resource;
  static constexpr auto fields() {
    return std::tuple(field("seconds", &PredictedReport::seconds),
                      field("tokens_per_second", &PredictedReport::tokens_per_second),
                      field("sweeps", &PredictedReport::sweeps), field("rank", &PredictedReport::rank),
                      field("binding_resource", &PredictedReport::binding_resource));
  }
};

/// The first sweeps of a rank beside what the cost model makes of the very rows that they brought.
struct PlanCheckReport {
  int rank = 0;
  std::uint64_t sweeps = 0;
  double predicted_seconds = 0;
  double measured_seconds = 0;  // of a rank among several: of its own work
  std::string wrong_ceiling;    // ceiling_name(); empty: none differs, or none explains it
  double profile_rate = 0;      // of it, bytes or operations per second; 0 without one
  double measured_rate = 0;
  std::string correction;             // what became of the profile, for people; empty: nothing was asked for
  std::int32_t planned_tokens = 0;    // of a micro-batch in a sweep
  std::int32_t replanned_tokens = 0;  // from then on
  static constexpr auto fields() {
    return std::tuple(
        field("rank", &PlanCheckReport::rank), field("sweeps", &PlanCheckReport::sweeps),
        field("predicted_seconds", &PlanCheckReport::predicted_seconds),
        field("measured_seconds", &PlanCheckReport::measured_seconds),
        field("wrong_ceiling", &PlanCheckReport::wrong_ceiling), field("profile_rate", &PlanCheckReport::profile_rate),
        field("measured_rate", &PlanCheckReport::measured_rate), field("correction", &PlanCheckReport::correction),
        field("planned_tokens", &PlanCheckReport::planned_tokens),
        field("replanned_tokens", &PlanCheckReport::replanned_tokens));
  }
};

}  // namespace flexgen
