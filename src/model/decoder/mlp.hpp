// The mlp as a part of a layer, its norm and its place in the residual stream included. Immutable once made.
#pragma once

#include "model/decoder/checkpoint_names.hpp"
#include "model/decoder/linear_part.hpp"
#include "model/decoder/norm.hpp"
#include "model/layer.hpp"

namespace flexgen {

class MlpPart {
 public:
  MlpPart(const ModelSpec& model, const CheckpointNames& names, WeightList list);

  /// Adds its share to the hidden states.
  void forward(const OpContext& context, const LayerCall& call) const;
  std::uint64_t workspace_bytes(const BlockShape& block, const CallSizes& sizes) const;

 private:
  MlpSpec spec_;
  std::int64_t hidden_;
  Residual residual_;
  LinearPart in_;
  LinearPart out_;
  Norm norm_;
};

}  // namespace flexgen
