// What an executor loads ahead of its computations: weights, cache and hidden states, each into the next slot of its
// own.
#include <algorithm>
#include <utility>

#include "engine/slice_executor.hpp"

namespace flexgen {
namespace {

template <class Slots>
auto& next_slot(Slots& slots, std::size_t& turn) {
  auto& slot = slots[turn];
  turn = (turn + 1) % slots.size();
  return slot;
}

// Rows as a decode step will find them; those that make no token, being only scored, end here.
std::vector<CacheRow> rows_of_next_sweep(const MicroBatchWork& batch) {
  std::vector<CacheRow> rows;
  for (const RowWork& row : batch.rows)
    if (row.wants_token) rows.push_back({row.cache_row, row.length(), 1});
  return rows;
}

}  // namespace

void SliceExecutor::load_weights(LayerId layer) {
  if (!memory_.weights.has_load(layer)) return;
  Slot& slot = next_slot(weight_slots_, weight_turn_);
  EventPtr copied;
  if (memory_.weights.has_gpu_part(layer)) {
    weight_copies_.wait(slot.free);
    weight_copies_.post(
        [this, layer, data = slot.data] { memory_.weights.load_gpu_part(layer, data, weight_copier_); });
    copied = weight_copies_.record();
  }
  weight_loads_.wait(slot.free);
  weight_loads_.post([this, layer, data = slot.data] { memory_.weights.load(layer, data, weight_transfer_); });
  weight_loads_.wait(copied);
  slot.loaded = weight_loads_.record();
  layer_slot_[layer.index()] = &slot;
  end_call(weight_loads_);
}

bool SliceExecutor::is_staged(LayerId layer, MicroBatchId k) const {
  return is_cached(layer) &&
         memory_.cache.is_staged(cache_index_[layer.index()], batch(k).slot, device_rows(batch(k).rows));
}

SliceExecutor::Slot& SliceExecutor::start_cache_load(LayerId layer, std::int32_t where,
                                                     std::span<const CacheRow> rows) {
  Slot& slot = next_slot(cache_slots_, cache_turn_);
  cache_loads_.wait(slot.free);
  cache_loads_.wait(cache_stored(layer, where));
  cache_loads_.post([this, index = cache_index_[layer.index()], where, rows = std::vector(rows.begin(), rows.end()),
                     data = slot.data] { memory_.cache.load(index, where, rows, data, cache_load_transfer_); });
  slot.loaded = cache_loads_.record();
  return slot;
}

void SliceExecutor::load_cache(LayerId layer, MicroBatchId k) {
  if (!is_staged(layer, k)) return;
  const std::span<const CacheRow> rows = device_rows(batch(k).rows);
  Slot* slot = take_early_cache(layer, batch(k).slot, rows);
  if (!slot) slot = &start_cache_load(layer, batch(k).slot, rows);
  cache_inputs_.push_back({slot->data, slot, slot->loaded});
  end_call(cache_loads_);
}

// The rows are a guess, right in a decode: those of the group whose turn it is, each a token longer. Wrong, it costs
// one load.
void SliceExecutor::load_next_sweeps_cache() {
  rows_to_come_[work_.group.index()] = {work_.micro_batches.front().slot,
                                        rows_of_next_sweep(work_.micro_batches.front())};
  const RowsToCome& next = rows_to_come_[(work_.group.index() + 1) % rows_to_come_.size()];
  const auto first = std::find(cache_index_.begin(), cache_index_.end(), 0);
  if (first == cache_index_.end() || next.rows.empty()) return;
  const LayerId layer(static_cast<std::int32_t>(first - cache_index_.begin()));
  const std::span<const CacheRow> rows = device_rows(next.rows);
  if (!memory_.cache.is_staged(0, next.slot, rows)) return;
  early_cache_ = EarlyCache{layer, next.slot, {rows.begin(), rows.end()}, &start_cache_load(layer, next.slot, rows)};
  end_call(cache_loads_);
}

// The first load of a sweep finds what the sweep before has loaded for it, or drops that: until then no sweep has
// changed the cache, so what counts is whether the image has every position that is wanted.
SliceExecutor::Slot* SliceExecutor::take_early_cache(LayerId layer, std::int32_t slot, std::span<const CacheRow> rows) {
  if (!early_cache_) return nullptr;
  const EarlyCache early = *std::exchange(early_cache_, std::nullopt);
  const auto is_there = [&](const CacheRow& wanted) {
    return std::ranges::any_of(early.rows, [&](const CacheRow& row) {
      return row.cache_row == wanted.cache_row && row.start >= wanted.start;
    });
  };
  const bool is_same = early.layer == layer && early.slot == slot;
  return is_same && std::ranges::all_of(rows, is_there) ? early.stage : nullptr;
}

std::uint64_t SliceExecutor::hidden_bytes(const MicroBatch& batch) const {
  return static_cast<std::uint64_t>(batch.num_tokens) * static_cast<std::uint64_t>(plan_.input.model.hidden) *
         element_bytes(plan_.input.policy.dtype);
}

void SliceExecutor::load_hidden(LayerId layer, MicroBatchId k) {
  const bool received = is_first(layer) && neighbours_.has_upstream();
  const std::uint64_t bytes = hidden_bytes(batch(k));
  EventPtr& stored = hidden_stored_[k.index()];
  Input input;
  input.data = memory_.hidden.resident(k.value, bytes);
  if (input.data) {
    // The first layer overwrites what the sweep before may still be sending.
    if (is_first(layer)) input.ready = stored;
  } else {
    input.slot = &next_slot(hidden_slots_, hidden_turn_);
    input.data = input.slot->data;
    input.ready = input.slot->free;
  }
  if (received) {
    hidden_loads_.wait(input.ready);
    hidden_loads_.post(
        [this, data = input.data, bytes] { neighbours_.receive_hidden(data, bytes, hidden_load_transfer_); });
    input.ready = hidden_loads_.record();
  } else if (!is_first(layer) && input.slot) {
    hidden_loads_.wait(input.ready);
    hidden_loads_.wait(stored);
    hidden_loads_.post(
        [this, k, data = input.data, bytes] { memory_.hidden.load(k.value, data, bytes, hidden_load_transfer_); });
    input.ready = hidden_loads_.record();
  }
  hidden_inputs_.push_back(input);
  end_call(hidden_loads_);
}

}  // namespace flexgen
