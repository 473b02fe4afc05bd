#include "engine/weight_lane.hpp"

namespace flexgen {

WeightLane::WeightLane(const StagePlan& plan, StageMemory& memory, const Surroundings& around)
    : store_(memory.weights),
      layers_(plan.input.slice.layers.all()),
      tracer_(around.tracer),
      slots_(memory.weight_slots),
      layer_slot_(plan.input.slice.layers.size(), nullptr),
      plain_layer_(memory.plain_layer, memory.tiers.part_bytes(Piece::plain_layer)),
      loads_("weight loads", side_mode(plan.input.policy), around, memory.tiers.disk_staging(disk_pieces_of_weights)),
      copies_("weight copies", side_mode(plan.input.policy), around, std::nullopt) {}

void WeightLane::fill() { store_.fill(&tracer_); }

void WeightLane::load(LayerId layer) {
  if (!store_.has_load(layer)) return;
  StagingSlot& slot = slots_.next();
  EventPtr copied;
  if (store_.has_gpu_part(layer)) {
    copies_.wait(slot.free);
    copies_.post([this, layer, data = slot.data](Transfer& copier) { store_.load_gpu_part(layer, data, copier); });
    copied = copies_.record();
  }
  loads_.wait(slot.free);
  loads_.post([this, layer, data = slot.data](Transfer& transfer) { store_.load(layer, data, transfer); });
  loads_.wait(copied);
  slot.loaded = loads_.record();
  layer_slot_[layer.index()] = &slot;
  loads_.end_call();
}

void WeightLane::take_input(LayerId layer, Stream& compute) {
  const StagingSlot* slot = layer_slot_[layer.index()];
  if (slot) compute.wait(slot->loaded);
  view(layer, slot ? slot->data : nullptr);
}

void WeightLane::take_any(LayerId layer) { view(layer, slots_.any_memory()); }

void WeightLane::view(LayerId layer, std::byte* slot) {
  layer_ = &layers_[layer.index()];
  stored_ = store_.views(layer, slot);
  rests_ = store_.rests(layer);
  plain_layer_.forget();
}

void WeightLane::synchronize() {
  loads_.synchronize();
  copies_.synchronize();
}

}  // namespace flexgen
