#include "model/decoder/embedding.hpp"

#include "model/decoder/scratch.hpp"
#include "ops/embedding.hpp"
#include "ops/linear.hpp"

namespace flexgen {
namespace {

TableView table(const LayerCall& call, WeightIndex index) {
  return index < call.rests.size() ? TableView(call.weights[index], call.rests[index]) : TableView(call.weights[index]);
}

}  // namespace

WeightIndex add_token_table(const ModelSpec& model, const CheckpointNames& names, WeightList& list) {
  std::vector<std::string> keys = names.table_keys();
  // Converted checkpoints may keep only one of two tied tensors.
  if (model.head.tied) keys.insert(keys.end(), names.head.begin(), names.head.end());
  const WeightIndex index =
      list.add("tokens.weight", model.vocab, model.embedding.width, std::move(keys), WeightRole::table);
  if (model.head.tied) list[index].shared_as = "tokens";
  return index;
}

Embedding::Embedding(const ModelSpec& model, const CheckpointNames& names)
    : Layer({LayerKind::embedding, -1, "embedding", {}}), spec_(model.embedding), max_positions_(model.max_positions) {
  WeightList list(weights(), names.prefixes);
  tokens_ = add_token_table(model, names, list);
  positions_ = list.add("positions.weight", max_positions_ + spec_.first_position, model.hidden,
                        list.keys(names.positions + ".weight"), WeightRole::positions);
  if (model.has_projections())
    projection_ = list.add("project_in.weight", model.hidden, spec_.width, list.keys(names.project_in + ".weight"));
}

void Embedding::forward(const OpContext& context, const LayerCall& call) const {
  if (projection_) {
    const Workspace::Scope scope(*context.workspace);
    const MatrixView narrow = take_scratch(context, call.hidden.rows, spec_.width, call.hidden.dtype, "embedding");
    gather_rows(context, table(call, tokens_), call.token_ids, narrow);
    linear(context, {narrow, call.weights[*projection_], std::nullopt, Activation::none, std::nullopt, call.hidden});
  } else {
    gather_rows(context, table(call, tokens_), call.token_ids, call.hidden);
  }
  const TableView positions = table(call, positions_).row_range(spec_.first_position, max_positions_);
  add_gathered_rows(context, positions, call.positions, call.hidden);
}

std::uint64_t Embedding::workspace_bytes(const Device&, const BlockShape& block, const CallSizes& sizes) const {
  return projection_ ? scratch_bytes(sizes.tokens, spec_.width, block.dtype) : 0;
}

}  // namespace flexgen
