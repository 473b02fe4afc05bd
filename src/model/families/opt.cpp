// OPT (Zhang et al. 2022, arXiv:2205.01068), all sizes, pre-norm and post-norm (opt-350m), with or without the
// projections around a narrower token table, biases, LayerNorm weights and final LayerNorm; ReLU or GELU.
#include "model/registry.hpp"

namespace flexgen {
namespace {

CheckpointNames opt_names() {
  CheckpointNames names;
  names.prefixes = {"model.decoder.", "decoder."};
  names.tokens = "embed_tokens";
  names.positions = "embed_positions";
  names.project_in = "project_in";
  names.project_out = "project_out";
  names.layers = "layers";
  names.qkv = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"};
  names.attention_out = "self_attn.out_proj";
  names.attention_norm = "self_attn_layer_norm";
  names.mlp_in = "fc1";
  names.mlp_out = "fc2";
  names.mlp_norm = "final_layer_norm";
  names.final_norm = {"final_layer_norm", "layer_norm"};  // the second in old checkpoints
  names.head = {"lm_head.weight", "model.lm_head.weight"};
  return names;
}

}  // namespace

ModelFamily opt_family() { return {"opt", opt_names()}; }

}  // namespace flexgen
