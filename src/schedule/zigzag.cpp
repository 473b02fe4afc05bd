#include "schedule/zigzag.hpp"

namespace flexgen {

void zigzag_sweep(Executor& executor, SweepShape shape, SweepOptions options) {
  // With one micro-batch the next hidden state is what is being computed now: it can be loaded only after its store.
  const bool next_hidden_exists_early = shape.num_micro_batches > 1;

  const auto load_inputs = [&](const Cursor& at) {
    executor.load_cache(at.layer(), at.micro_batch());
    executor.load_hidden(at.layer(), at.micro_batch());
  };

  Cursor at(shape);
  if (!options.first_weights_loaded) executor.load_weights(at.layer());
  load_inputs(at);

  while (true) {
    const bool asked_for = at.layer() == LayerId(0) && options.first_weights_loaded && !at.at_last_layer();
    if (at.micro_batch() == MicroBatchId(0) && !asked_for && (!at.at_last_layer() || options.more_follow))
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
  // Two slots: the layer before last has left its own, and the last has been computed.
  if (options.more_follow && shape.num_layers > 1) executor.load_weights(LayerId(1));
}

}  // namespace flexgen
