// How long a job is predicted to take, where the roofline says how long it takes at least: products at the rate of
// their size, resources that take turns, the cost of a call, and blocks that fill and drain. Pure arithmetic.
//
// A sweep takes as long as the busiest group of resources: those of a group take turns, groups work side by side. A job
// is the sum of its sweeps, which are followed one by one: rows enter as the token budget lets them, hold their places
// as long as they make tokens, and leave; of a job of many blocks the steady state is followed for a while and then
// carried on. Stages of a pipeline take turns with the groups in flight.
#pragma once

#include <span>
#include <vector>

#include "policy/roofline.hpp"
#include "policy/stage_traffic.hpp"

namespace flexgen {

/// Resources that take turns; groups work side by side. On a host that computes, its processors do all but the disk's
/// and the network's work; on a GPU kernels follow each other, be they bound by arithmetic or by its memory.
const std::vector<std::vector<Ceiling>>& serial_groups(const StageInput& stage);

/// Without overlap all groups take turns.
double sweep_seconds(const Needs& needs, const StageInput& stage);

/// What sweeps of a stage need. Refers to the stage, which is planned once for all of them.
class SweepCost {
 public:
  explicit SweepCost(const StageInput& stage);

  Needs needs(std::span<const SweepRows> kinds) const;
  const StageInput& stage() const { return traffic_.stage(); }
  const MemoryPlan& memory() const { return traffic_.memory(); }

 private:
  // Matrices of one shape and form.
  struct Matrices {
    double outputs = 0, inputs = 0;
    QuantFormat stored;
    bool is_of_head = false;
    double count = 0;
  };
  // Of one sweep.
  struct Calls {
    double tokens = 0, outputs = 0, micro_batches = 0;
  };

  void count_matrices();
  static Calls calls_of(std::span<const SweepRows> kinds);
  double product_seconds(const Traffic& traffic, const Calls& calls) const;
  double seconds_by_ceilings(const Traffic& traffic, const Calls& calls) const;
  double seconds_by_rates(const Calls& calls) const;
  double attention_seconds(const SweepRows& rows) const;
  double host_memory_seconds(const Traffic& traffic, const Calls& calls, std::span<const SweepRows> kinds) const;
  double made_plain_bytes(const Calls& calls) const;

  StageTraffic traffic_;
  std::vector<Matrices> matrices_;
  double num_layers_ = 0;   // calls of a micro-batch in a sweep
  double plain_bytes_ = 0;  // of the slice's compressed matrices, made plain
  bool has_plain_layer_ = false;
};

/// By phase, in the order of SweepPhase: what all sweeps of the job need, as bound_stage has it, but as predicted.
std::array<Needs, 3> phase_needs(const SweepCost& cost, const RooflineJob& job);

/// The sum over the phases: what a stage takes with blocks that are always full.
double phase_seconds(const SweepCost& cost, const RooflineJob& job);

struct Prediction {
  double seconds = 0;  // whole run
  double tokens_per_second = 0;
  double num_sweeps = 0;              // of each group
  double full_share = 0;              // of the time, with all places taken
  Ceiling binding = Ceiling::matrix;  // the busiest resource of the slowest stage
  std::size_t slowest = 0;            // stage
};

/// All stages run the same block. Rows are as the stages' job shape has them.
Prediction predict_run(std::span<const StageInput> stages, const RooflineJob& job);

}  // namespace flexgen
