#include "engine/stage_memory.hpp"

#include <utility>

namespace flexgen {
namespace {

static_assert(sizeof(KvHead) == cache_table_entry_bytes);

std::vector<std::byte*> take_slots(const StagePlan& plan, Piece piece, TierMemory& tiers) {
  const PieceView view = tiers.on_device(piece);
  std::vector<std::byte*> slots(plan.memory.pieces.at(piece, TierKind::gpu).count);
  for (std::size_t i = 0; i < slots.size(); ++i) slots[i] = view[i];
  return slots;
}

OutputArrays outputs_in(std::byte* tokens, std::byte* scores, std::byte* top_tokens, std::byte* top_scores) {
  return {reinterpret_cast<std::int32_t*>(tokens), reinterpret_cast<float*>(scores),
          reinterpret_cast<std::int32_t*>(top_tokens), reinterpret_cast<float*>(top_scores)};
}

OutputArrays take_outputs(TierMemory& tiers) {
  std::byte* const tokens = tiers.on_device(Piece::sampled_tokens).data;
  std::byte* const scores = tiers.on_device(Piece::scores).data;
  const PieceView alternatives = tiers.on_device(Piece::alternatives);
  return outputs_in(tokens, scores, alternatives[0], alternatives[1]);
}

}  // namespace

OutputArrays OutputPieces::arrays() const {
  return outputs_in(tokens.data(), scores.data(), alternatives[0], alternatives[1]);
}

StageMemory::StageMemory(const StagePlan& plan, const Budgets& budgets, std::shared_ptr<WeightSource> source,
                         const Device& device, const std::filesystem::path& offload_dir)
    : tiers(plan.memory.pieces, budgets, device, offload_dir),
      host_scratch(tiers.host_scratch()),
      weights(plan.input.slice.layers.all(), plan.memory.weights, std::move(source),
              {plan.input.policy.dtype, plan.input.policy.pin_weights}, tiers),
      cache(plan.memory.cache, tiers),
      hidden(plan.memory.hidden, tiers),
      batches(tiers, plan.input.policy.uses_host_attention() ? DecodeCalls::own : DecodeCalls::shared),
      workspace(tiers.on_device(Piece::workspace).data, tiers.part_bytes(Piece::workspace)),
      weight_slots(take_slots(plan, Piece::weight_slots, tiers)),
      cache_slots(take_slots(plan, Piece::cache_slots, tiers)),
      hidden_slots(take_slots(plan, Piece::hidden_slots, tiers)),
      plain_layer(tiers.on_device(Piece::plain_layer).data),
      outputs(take_outputs(tiers)),
      results{tiers.host_side(Piece::result_tokens), tiers.host_side(Piece::result_scores),
              tiers.host_side(Piece::result_alternatives)} {}

}  // namespace flexgen
