// The first layer of a model: tokens and positions become hidden states. Stateless, as all layers.
#pragma once

#include <optional>

#include "model/decoder/checkpoint_names.hpp"
#include "model/decoder/weight_list.hpp"
#include "model/layer.hpp"

namespace flexgen {

class Embedding final : public Layer {
 public:
  Embedding(const ModelSpec& model, const CheckpointNames& names);

  void forward(const OpContext& context, const LayerCall& call) const override;
  std::uint64_t workspace_bytes(const Device& device, const BlockShape& block, const CallSizes& sizes) const override;

 private:
  EmbeddingSpec spec_;
  std::int64_t max_positions_;
  WeightIndex tokens_;
  WeightIndex positions_;
  std::optional<WeightIndex> projection_;
};

/// The table of tokens, in the embedding and in a head that is tied to it.
WeightIndex add_token_table(const ModelSpec& model, const CheckpointNames& names, WeightList& list);

}  // namespace flexgen
