// OPT (Zhang et al. 2022, arXiv:2205.01068), all sizes, pre-norm and post-norm (opt-350m), with or without the
// projections around a narrower token table, biases, LayerNorm weights and final LayerNorm; ReLU or GELU.
#include <fmt/core.h>

#include "model/config.hpp"
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

ActivationKind read_activation(const Config& config) {
  const std::string activation = config.text_or("activation_function", "relu");
  if (activation == "relu") return ActivationKind::relu;
  if (activation == "gelu") return ActivationKind::gelu;
  config.refuse("its activation_function is '" + activation + "'", "OPT runs with relu or gelu");
}

void read_parts(const Config& config, ModelSpec& spec) {
  spec.num_layers = config.count("num_hidden_layers");
  const std::int32_t num_heads = config.count("num_attention_heads");
  spec.hidden = config.count("hidden_size");
  spec.mlp.width = config.count("ffn_dim");
  spec.vocab = config.count("vocab_size");
  spec.max_positions = config.count("max_position_embeddings");
  if (spec.hidden % num_heads != 0)
    config.refuse(fmt::format("hidden_size {} is not a multiple of num_attention_heads {}", spec.hidden, num_heads),
                  "");
  spec.attention = AttentionSpec::of_heads(num_heads, spec.hidden);
  spec.embedding.width = config.count_or("word_embed_proj_dim", spec.hidden, 1);
  spec.embedding.first_position = 2;

  const bool has_norms_before = config.flag_or("do_layer_norm_before", true);
  const bool lacks_final_norm = config.flag_or("_remove_final_layer_norm", false);
  spec.residual = has_norms_before ? Residual::pre : Residual::post;
  spec.head.norm = has_norms_before && !lacks_final_norm;
  spec.attention.bias = spec.mlp.bias = config.flag_or("enable_bias", true);
  spec.norm.affine = config.flag_or("layer_norm_elementwise_affine", true);
  spec.head.tied = config.flag_or("tie_word_embeddings", true);
  spec.mlp.activation = read_activation(config);
  config.pass_over({"learned_embeddings"});
}

}  // namespace

ModelFamily opt_family() {
  return {"opt", "OPT (model_type 'opt', which includes OPT-IML and Galactica)", read_parts, opt_names()};
}

}  // namespace flexgen
