// Keeps what the first sweeps of a pass bring and take, on one rank, until there is enough to judge its plan by.
//
// Enough: four sweeps with rows that decode (where the job has any) and five seconds, or a tenth of the job, or a
// thousand sweeps. Room for all is taken at once. Refers to the tracer. The thread that runs sweeps calls it.
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

  /// Before the rank runs its part of a sweep: the one before it is over, here.
  void begin(const SweepWork& work);
  /// The tokens of the sweep are there. Of the only stage: another would count others' time as its own.
  void end();
  bool are_enough() const;
  /// Ends the last one. Fewer than four tell nothing: then there is none.
  std::vector<SeenSweep> take();

 private:
  void close();

  const Tracer& tracer_;
  bool decodes_;
  double tenth_;  // of the job's tokens
  std::vector<SeenSweep> sweeps_;
  std::int64_t num_decoding_ = 0;  // sweeps
  double num_tokens_ = 0;
  std::uint64_t first_ns_ = 0;
  std::uint64_t begin_ns_ = 0;
  bool is_open_ = false;
  TotalsByResource before_{};  // the sweep that is open
};

}  // namespace flexgen
