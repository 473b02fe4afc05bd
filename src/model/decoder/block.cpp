#include "model/decoder/block.hpp"

#include <algorithm>
#include <string>

namespace flexgen {

AttentionLayer::AttentionLayer(const ModelSpec& model, const CheckpointNames& names, std::int32_t decoder_layer)
    : Layer({LayerKind::attention, decoder_layer, "attention " + std::to_string(decoder_layer), {}}),
      attention_(model, names, {weights(), names.layer_prefixes(decoder_layer)}) {}

void AttentionLayer::forward(const OpContext& context, const LayerCall& call) const {
  attention_.forward(context, call);
}

void AttentionLayer::project(const OpContext& context, const LayerCall& call) const {
  attention_.project(context, call, {call.projected, call.attended});
}

void AttentionLayer::finish(const OpContext& context, const LayerCall& call) const {
  attention_.finish(context, call, call.attended);
}

std::uint64_t AttentionLayer::workspace_bytes(const Device& device, const BlockShape& block,
                                              const CallSizes& sizes) const {
  return attention_.workspace_bytes(device, block, sizes);
}

MlpLayer::MlpLayer(const ModelSpec& model, const CheckpointNames& names, std::int32_t decoder_layer)
    : Layer({LayerKind::mlp, decoder_layer, "mlp " + std::to_string(decoder_layer), {}}),
      mlp_(model, names, {weights(), names.layer_prefixes(decoder_layer)}) {}

void MlpLayer::forward(const OpContext& context, const LayerCall& call) const { mlp_.forward(context, call); }

std::uint64_t MlpLayer::workspace_bytes(const Device&, const BlockShape& block, const CallSizes& sizes) const {
  return mlp_.workspace_bytes(block, sizes);
}

Block::Block(const ModelSpec& model, const CheckpointNames& names, std::int32_t decoder_layer)
    : Layer({LayerKind::block, decoder_layer, "block " + std::to_string(decoder_layer), {}}),
      residual_(model.residual),
      attention_(model, names, {weights(), names.layer_prefixes(decoder_layer)}),
      mlp_(model, names, {weights(), names.layer_prefixes(decoder_layer)}) {}

void Block::forward(const OpContext& context, const LayerCall& call) const {
  if (residual_ != Residual::parallel) {
    attention_.forward(context, call);
    mlp_.forward(context, call);
    return;
  }
  const Workspace::Scope scope(*context.workspace);
  const AttentionPart::Between between = attention_.take_between(context, call.hidden);
  attention_.project(context, call, between);
  finish_with(context, call, between.attended);
}

void Block::project(const OpContext& context, const LayerCall& call) const {
  attention_.project(context, call, {call.projected, call.attended});
}

void Block::finish(const OpContext& context, const LayerCall& call) const { finish_with(context, call, call.attended); }

// In a parallel block the mlp reads what attention has read: attention adds its share last.
void Block::finish_with(const OpContext& context, const LayerCall& call, const MatrixView& attended) const {
  if (residual_ == Residual::parallel) mlp_.forward(context, call);
  attention_.finish(context, call, attended);
  if (residual_ != Residual::parallel) mlp_.forward(context, call);
}

std::uint64_t Block::workspace_bytes(const Device& device, const BlockShape& block, const CallSizes& sizes) const {
  const std::uint64_t attention = attention_.workspace_bytes(device, block, sizes);
  const std::uint64_t mlp = mlp_.workspace_bytes(block, sizes);
  return residual_ == Residual::parallel ? attention + mlp : std::max(attention, mlp);
}

}  // namespace flexgen
