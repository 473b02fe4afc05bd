#include "schedule/zigzag.hpp"

namespace flexgen {

void zigzag_sweep(Executor& executor, SweepShape shape, SweepOptions options) {
  // With one micro-batch the next hidden state is what is being computed now: it can be loaded only after its store.
  const bool next_hidden_exists_early = shape.num_micro_batches > 1;

  const auto load_inputs = [&](const Cursor& at) {
    executor.load_cache(at.layer(), at.micro_batch());
    executor.load_hidden(at.layer(), at.micro_batch());
  };

  const auto ahead_is_due = [&](const Cursor& at) {
    if (at.at_last_layer()) return options.more_follow;
    return at.layer() != LayerId(0) || !options.first_weights_loaded;
  };

  Cursor at(shape);
  if (!options.first_weights_loaded) executor.load_weights(at.layer());
  load_inputs(at);

  while (true) {
    if (at.micro_batch() == MicroBatchId(0) && ahead_is_due(at))
      executor.load_weights(at.next_layer());  // zig: down the layers, one ahead

    const std::optional<Cursor> next = at.next();  // zag: across the block, one ahead
    if (next && next_hidden_exists_early) load_inputs(*next);
    else if (next) executor.load_cache(next->layer(), next->micro_batch());

    executor.compute(at.layer(), at.micro_batch());
    executor.store_cache(at.layer(), at.micro_batch());
    executor.store_hidden(at.layer(), at.micro_batch());

    if (!next) break;
    if (!next_hidden_exists_early) executor.load_hidden(next->layer(), next->micro_batch());
    at = *next;
  }
  if (!options.more_follow) return;
  // The last layer's slots are free when it has been computed, whatever becomes of its tokens.
  if (shape.num_layers > 1) executor.load_weights(LayerId(1));
  executor.load_next_sweeps_cache();
}

}  // namespace flexgen
