// The last layer of a model: of the positions wanted, hidden states become logits. Stateless, as all layers.
#pragma once

#include <optional>

#include "model/decoder/checkpoint_names.hpp"
#include "model/decoder/norm.hpp"
#include "model/layer.hpp"

namespace flexgen {

class Head final : public Layer {
 public:
  Head(const ModelSpec& model, const CheckpointNames& names);

  void forward(const OpContext& context, const LayerCall& call) const override;
  std::uint64_t workspace_bytes(const Device& device, const BlockShape& block, const CallSizes& sizes) const override;

 private:
  std::int64_t hidden_;
  std::int64_t width_;  // of the table of tokens
  std::int64_t vocab_;
  std::optional<Norm> norm_;
  std::optional<WeightIndex> projection_;
  WeightIndex table_;
};

}  // namespace flexgen
