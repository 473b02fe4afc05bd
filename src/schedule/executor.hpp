// What a schedule can ask for. Overlap, timing, tracing and pipelines are properties of executors, not of the loop.
#pragma once

#include <string>
#include <vector>

#include "base/ids.hpp"

namespace flexgen {

/// Every call starts something; whether it returns before it is done is the executor's business, as is waiting for
/// what a call depends on. Called from one thread, in the order of zigzag.cpp.
class Executor {
 public:
  virtual ~Executor() = default;

  virtual void load_weights(LayerId layer) = 0;
  virtual void load_cache(LayerId layer, MicroBatchId micro_batch) = 0;
  virtual void load_hidden(LayerId layer, MicroBatchId micro_batch) = 0;
  virtual void compute(LayerId layer, MicroBatchId micro_batch) = 0;
  virtual void store_cache(LayerId layer, MicroBatchId micro_batch) = 0;
  virtual void store_hidden(LayerId layer, MicroBatchId micro_batch) = 0;
  /// A sweep that follows will want this first; its work is not known yet.
  virtual void load_next_sweeps_cache() = 0;
};

/// Turns the order into text, one call per line: "compute 3 0". Needs no tensor and no GPU.
class RecordingExecutor final : public Executor {
 public:
  void load_weights(LayerId layer) override { lines_.push_back("load_weights " + std::to_string(layer.value)); }
  void load_cache(LayerId layer, MicroBatchId k) override { add("load_cache", layer, k); }
  void load_hidden(LayerId layer, MicroBatchId k) override { add("load_hidden", layer, k); }
  void compute(LayerId layer, MicroBatchId k) override { add("compute", layer, k); }
  void store_cache(LayerId layer, MicroBatchId k) override { add("store_cache", layer, k); }
  void store_hidden(LayerId layer, MicroBatchId k) override { add("store_hidden", layer, k); }
  void load_next_sweeps_cache() override { lines_.emplace_back("load_next_sweeps_cache"); }

  const std::vector<std::string>& lines() const { return lines_; }

 private:
  void add(const char* call, LayerId layer, MicroBatchId k) {
    lines_.push_back(std::string(call) + " " + std::to_string(layer.value) + " " + std::to_string(k.value));
  }
  std::vector<std::string> lines_;
};

}  // namespace flexgen
