// A decoder layer: attention and mlp as one layer of the sweep, or each as a layer of its own. Stateless, as all
// layers.
#pragma once

#include "model/decoder/attention.hpp"
#include "model/decoder/checkpoint_names.hpp"
#include "model/decoder/mlp.hpp"
#include "model/layer.hpp"

namespace flexgen {

class AttentionLayer final : public Layer {
 public:
  AttentionLayer(const ModelSpec& model, const CheckpointNames& names, std::int32_t decoder_layer);

  void forward(const OpContext& context, const LayerCall& call) const override;
  void project(const OpContext& context, const LayerCall& call) const override;
  void finish(const OpContext& context, const LayerCall& call) const override;
  std::uint64_t workspace_bytes(const Device& device, const BlockShape& block, const CallSizes& sizes) const override;

 private:
  AttentionPart attention_;
};

class MlpLayer final : public Layer {
 public:
  MlpLayer(const ModelSpec& model, const CheckpointNames& names, std::int32_t decoder_layer);

  void forward(const OpContext& context, const LayerCall& call) const override;
  std::uint64_t workspace_bytes(const Device& device, const BlockShape& block, const CallSizes& sizes) const override;

 private:
  MlpPart mlp_;
};

class Block final : public Layer {
 public:
  Block(const ModelSpec& model, const CheckpointNames& names, std::int32_t decoder_layer);

  void forward(const OpContext& context, const LayerCall& call) const override;
  void project(const OpContext& context, const LayerCall& call) const override;
  void finish(const OpContext& context, const LayerCall& call) const override;
  std::uint64_t workspace_bytes(const Device& device, const BlockShape& block, const CallSizes& sizes) const override;

 private:
  void finish_with(const OpContext& context, const LayerCall& call, const MatrixView& attended) const;

  Residual residual_;
  AttentionPart attention_;
  MlpPart mlp_;
};

}  // namespace flexgen
