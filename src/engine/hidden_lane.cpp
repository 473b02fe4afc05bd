#include "engine/hidden_lane.hpp"

#include <utility>

namespace flexgen {

HiddenLane::HiddenLane(const StagePlan& plan, StageMemory& memory, Neighbours& neighbours, OutputLane& output,
                       const Surroundings& around)
    : store_(memory.hidden),
      neighbours_(neighbours),
      output_(output),
      num_layers_(plan.input.slice.layers.size()),
      token_bytes_(hidden_token_bytes(plan.input)),
      slots_(memory.hidden_slots),
      overlaps_(plan.input.policy.overlap),
      stored_(static_cast<std::size_t>(plan.input.policy.num_micro_batches)),
      loads_("hidden loads", side_mode(plan.input.policy), around, memory.tiers.disk_staging(disk_pieces_of_hidden)),
      stores_("hidden stores", side_mode(plan.input.policy), around, memory.tiers.disk_staging(disk_pieces_of_hidden)) {
}

std::uint64_t HiddenLane::bytes_of(const MicroBatch& batch) const {
  return static_cast<std::uint64_t>(batch.num_tokens) * token_bytes_;
}

void HiddenLane::load(LayerId layer, MicroBatchId k, const MicroBatch& batch) {
  if (overlaps_) neighbours_.look_ahead();
  const bool received = receives(layer);
  const std::uint64_t bytes = bytes_of(batch);
  const EventPtr& stored = stored_[k.index()];
  LaneInput input;
  input.data = store_.resident(k.value, bytes);
  if (input.data) {
    // The first layer overwrites what the sweep before may still be sending.
    if (is_first(layer)) input.ready = stored;
  } else {
    input.slot = &slots_.next();
    input.data = input.slot->data;
    input.ready = input.slot->free;
  }
  if (received) {
    loads_.wait(input.ready);
    loads_.post(
        [this, data = input.data, bytes](Transfer& transfer) { neighbours_.receive_hidden(data, bytes, transfer); });
    input.ready = loads_.record();
  } else if (!is_first(layer) && input.slot) {
    loads_.wait(input.ready);
    loads_.wait(stored);
    loads_.post(
        [this, k, data = input.data, bytes](Transfer& transfer) { store_.load(k.value, data, bytes, transfer); });
    input.ready = loads_.record();
  }
  inputs_.push_back(std::move(input));
  loads_.end_call();
}

const LaneInput& HiddenLane::take_input() {
  input_ = std::move(inputs_.front());
  inputs_.pop_front();
  return input_;
}

std::byte* HiddenLane::any_memory(const MicroBatch& batch) const {
  std::byte* const resident = store_.resident(0, bytes_of(batch));
  return resident ? resident : slots_.any_memory();
}

void HiddenLane::store(LayerId layer, MicroBatchId k, const MicroBatch& batch, const EventPtr& computed) {
  EventPtr& stored = stored_[k.index()];
  if (is_last(layer) || input_.slot) {
    stores_.wait(computed);
    if (!is_last(layer))
      stores_.post([this, k, data = input_.data, bytes = bytes_of(batch)](Transfer& transfer) {
        store_.store(k.value, data, bytes, transfer);
      });
    else if (neighbours_.has_downstream())
      stores_.post([this, data = input_.data, bytes = bytes_of(batch)](Transfer& transfer) {
        neighbours_.send_hidden(data, bytes, transfer);
      });
    else output_.deliver(k, batch, stores_);
    stored = stores_.record();
  }
  if (input_.slot) input_.slot->free = stored;
  stores_.end_call();
}

void HiddenLane::await_output_places(MicroBatchId k, Stream& compute) const {
  compute.wait(stored_[k.index()]);  // its tokens may still be read
  if (output_.keeps_logits())
    for (const EventPtr& read : stored_) compute.wait(read);  // one place for all micro-batches
}

void HiddenLane::synchronize() {
  loads_.synchronize();
  stores_.synchronize();
}

}  // namespace flexgen
