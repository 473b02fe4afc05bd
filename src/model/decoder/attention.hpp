// Attention as a part of a layer, its norm and its place in the residual stream included. Immutable once made.
#pragma once

#include "model/decoder/checkpoint_names.hpp"
#include "model/decoder/linear_part.hpp"
#include "model/decoder/norm.hpp"
#include "model/layer.hpp"

namespace flexgen {

class AttentionPart {
 public:
  AttentionPart(const ModelSpec& model, const CheckpointNames& names, WeightList list);

  /// Between the two halves of a call.
  struct Between {
    MatrixView projected;  // [tokens, query_width + 2 * kv_width]: query, key and value
    MatrixView attended;   // [tokens, query_width]
  };
  Between take_between(const OpContext& context, const MatrixView& hidden) const;

  /// Adds its share to the hidden states.
  void forward(const OpContext& context, const LayerCall& call) const;

  /// The same in two halves. norm(hidden) -> projected; the rows of call.batch attend, into attended. Leaves the hidden
  /// states as they are.
  void project(const OpContext& context, const LayerCall& call, const Between& between) const;
  /// attended -> what is added to the hidden states.
  void finish(const OpContext& context, const LayerCall& call, const MatrixView& attended) const;

  std::uint64_t workspace_bytes(const Device& device, const BlockShape& block, const CallSizes& sizes) const;

 private:
  AttentionSpec spec_;
  std::int64_t hidden_;
  Residual residual_;
  LinearPart qkv_;
  LinearPart out_;
  Norm norm_;
};

}  // namespace flexgen
