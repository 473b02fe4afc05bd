// Keeps what the first sweeps of a pass bring and take, on one rank, until there is enough to judge its plan by.
//
// Enough: four sweeps with rows that decode (where the job has any) and five seconds, or a tenth of the job, or a
// thousand sweeps. Room for all is taken at once. Refers to the tracer, which has seen no sweep yet. The thread that
// runs sweeps calls it.
#pragma once

#include <cstdint>
#include <vector>

#include "base/trace.hpp"
#include "run/planning/plan_check.hpp"
#include "schedule/work_list.hpp"
#include "spec/policy.hpp"

namespace flexgen {

class FirstSweeps {
 public:
  FirstSweeps(const Tracer& tracer, const JobShape& job);

  /// Before the rank runs its part of a sweep. Not without room.
  void begin(const SweepWork& work);
  /// The tokens of the sweep are there. Of the only stage: another would count others' time as its own.
  void end();
  bool are_enough() const;
  bool has_room() const { return sweeps_.size() < sweeps_.capacity(); }
  /// Where the tracer hears of all that was done in them. Fewer than four tell nothing: then there is none.
  SeenSweeps take();

 private:
  const Tracer& tracer_;
  bool decodes_;
  double tenth_;  // of the job's tokens
  std::vector<SeenSweep> sweeps_;
  std::int64_t num_decoding_ = 0;  // sweeps
  double num_tokens_ = 0;
  std::uint64_t first_ns_ = 0;
  std::uint64_t begin_ns_ = 0;
};

}  // namespace flexgen
