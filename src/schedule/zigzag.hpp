// The zig-zag block schedule (Sheng et al., FlexGen, ICML 2023, section 4.1): a block passes through a layer while
// its weights are there.
#pragma once

#include "schedule/cursor.hpp"
#include "schedule/executor.hpp"

namespace flexgen {

struct SweepOptions {
  bool first_weights_loaded = false;  // the sweep before has already asked for the first two layers
  bool more_follow = false;           // ask for them, and its first cache, at the end: the next waits for tokens
};

/// One pass over the layers for all micro-batches of a block.
void zigzag_sweep(Executor& executor, SweepShape shape, SweepOptions options);

}  // namespace flexgen
