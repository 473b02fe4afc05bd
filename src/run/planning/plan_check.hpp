// Sweeps of one stage beside what the cost model makes of the rows that they brought: how far they are apart, and which
// ceiling of the machine's profile is to blame. Pure arithmetic.
//
// What a resource had to do over the time in which it was busy is its own measured rate. Kernels share one stream, so
// arithmetic and memory have one time together: of the two the one is taken that, corrected, explains the phases
// better, as prompts ask for arithmetic and single tokens for memory.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <vector>

#include "base/trace.hpp"
#include "policy/cost_model.hpp"
#include "schedule/work_list.hpp"

namespace flexgen {

/// By more than this part plan and measurement must differ to be spoken of.
inline constexpr double plan_tolerance = 0.15;

/// Whether one is that much more or less than the other; nothing differs from what is not known (0).
bool differ(double one, double other);

struct SeenSweep {
  std::array<SweepRows, 2> kinds;  // rows that read prompts, rows that decode
  double seconds = 0;              // until its tokens were there; 0: not known, the stage is one of several

  TracePhase phase() const;
};

struct SeenSweeps {
  std::vector<SeenSweep> each;
  std::array<TotalsByResource, num_trace_phases> used{};  // in all of them, by TracePhase
};

/// The rows that a sweep brings, as the cost model wants them: either kind by its means.
std::array<SweepRows, 2> rows_of(const SweepWork& work);

struct WrongCeiling {
  Ceiling ceiling{};
  double profile_rate = 0;   // bytes or operations per second, at best
  double measured_rate = 0;  // the same of this job
  double factor() const { return measured_rate / profile_rate; }
};

struct PlanFinding {
  std::size_t num_sweeps = 0;
  double predicted_seconds = 0;  // of the sweeps; of a stage among several: of its own work
  double measured_seconds = 0;
  std::optional<WrongCeiling> wrong;  // none: within the tolerance, or no resource explains it

  bool differs() const { return differ(measured_seconds, predicted_seconds); }
};

PlanFinding check_plan(const StageInput& stage, const SeenSweeps& sweeps);

/// Multiplies all rates that the ceiling stands for, those of ops among them.
void scale_ceiling(StageInput& stage, Ceiling ceiling, double factor);

}  // namespace flexgen
