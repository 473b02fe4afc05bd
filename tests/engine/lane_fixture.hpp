// A stage's plan and memory without a stage: what lanes are made from, for tests of one lane alone.
#pragma once

#include <future>
#include <memory>
#include <utility>

#include "base/trace.hpp"
#include "engine/layer_calls.hpp"
#include "engine/stage_memory.hpp"
#include "engine/surroundings.hpp"
#include "model/slice_description.hpp"
#include "tests/support/scratch_place.hpp"
#include "tests/support/tiny_model.hpp"
#include "weights/weight_source.hpp"

namespace flexgen::test {

class LaneParts {
 public:
  LaneParts(const Policy& policy, const JobShape& job) {
    plan.bounds = {0, model.num_layers, true, true};
    plan.input = plan_input(model, describe_slice(model, plan.bounds, policy.separate_layers, Device{}), policy, job);
    plan.memory = plan_memory(plan.input);
    layers = make_layers(model, plan.bounds, policy.separate_layers);
    memory = std::make_unique<StageMemory>(plan, Budgets{1ULL << 30, 1ULL << 30, 1ULL << 30}, make_random_source(),
                                           Device{}, scratch.path());
    calls = std::make_unique<LayerCalls>(plan);
  }

  /// The sweep's micro-batches, valid until the sweep after next.
  const std::vector<MicroBatch>& prepare(const SweepWork& work) { return memory->batches.prepare(work, compute); }

  const ScratchPlace scratch;
  const ModelSpec model = tiny_model();
  Tracer tracer;
  const Surroundings around{Device{}, Backend::native, tracer, {}};
  Stream compute{"compute", Stream::Mode::inline_tasks, Device{}};
  StagePlan plan;
  Layers layers;
  std::unique_ptr<StageMemory> memory;
  std::unique_ptr<LayerCalls> calls;
};

/// A stream that stands still until it is let go.
class HeldStream {
 public:
  HeldStream() {
    stream_.post([gate = gate_.get_future().share()] { gate.wait(); });
  }
  ~HeldStream() { let_go(); }
  EventPtr record() { return stream_.record(); }
  void let_go() {
    if (std::exchange(is_held_, false)) gate_.set_value();
  }

 private:
  std::promise<void> gate_;
  bool is_held_ = true;
  Stream stream_{"held", Stream::Mode::threaded, Device{}};
};

}  // namespace flexgen::test
