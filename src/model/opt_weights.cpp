#include "model/opt_weights.hpp"

#include <fmt/format.h>

namespace flexgen {
namespace {

// The prefixes under which checkpoints of the same model are found.
std::vector<std::string> decoder_keys(const std::string& key) { return {"model.decoder." + key, "decoder." + key}; }

WeightSpec matrix(const std::string& name, std::int64_t rows, std::int64_t cols, std::vector<std::string> keys) {
  WeightSpec weight{name, rows, cols, {{std::move(keys), rows * cols}}, "", 0, 0.06F};
  return weight;
}

void add_norm(std::vector<WeightSpec>& weights, const ModelSpec& spec, const std::string& name,
              const std::vector<std::string>& stems) {
  if (!spec.norm.affine) return;
  std::vector<std::string> gamma;
  std::vector<std::string> beta;
  for (const std::string& stem : stems) {
    gamma.push_back(stem + ".weight");
    beta.push_back(stem + ".bias");
  }
  weights.push_back(matrix(name + ".weight", 1, spec.hidden, gamma));
  weights.back().random_center = 1;
  weights.push_back(matrix(name + ".bias", 1, spec.hidden, beta));
}

void add_linear(std::vector<WeightSpec>& weights, const ModelSpec& spec, const std::string& name, std::int64_t rows,
                std::int64_t cols, const std::string& stem) {
  weights.push_back(matrix(name + ".weight", rows, cols, decoder_keys(stem + ".weight")));
  weights.back().role = WeightRole::linear;
  if (spec.attention.bias) weights.push_back(matrix(name + ".bias", 1, rows, decoder_keys(stem + ".bias")));
}

WeightSpec token_table(const ModelSpec& spec) {
  std::vector<std::string> keys = decoder_keys("embed_tokens.weight");
  // Converted checkpoints may keep only one of two tied tensors.
  if (spec.head.tied) keys.insert(keys.end(), {"lm_head.weight", "model.lm_head.weight"});
  WeightSpec table = matrix("tokens.weight", spec.vocab, spec.embedding.width, std::move(keys));
  if (spec.head.tied) table.shared_as = "tokens";
  table.role = WeightRole::table;
  return table;
}

// The first matrix of a sublayer is fed by the norm whose weights come last; after it, in a post-norm model, it is not.
void set_mean_input(std::vector<WeightSpec>& weights, const ModelSpec& spec) {
  if (spec.attention.bias && spec.norm.affine && spec.residual == Residual::pre)
    weights.front().mean_input = static_cast<std::int32_t>(weights.size()) - 1;
}

std::string layer_stem(std::int32_t decoder_layer, const char* rest) {
  return fmt::format("layers.{}.{}", decoder_layer, rest);
}

}  // namespace

std::vector<WeightSpec> opt_embedding_weights(const ModelSpec& spec) {
  std::vector<WeightSpec> weights;
  weights.push_back(token_table(spec));
  weights.push_back(matrix("positions.weight", spec.max_positions + spec.embedding.first_position, spec.hidden,
                           decoder_keys("embed_positions.weight")));
  weights.back().role = WeightRole::positions;
  if (spec.has_projections())
    weights.push_back(
        matrix("project_in.weight", spec.hidden, spec.embedding.width, decoder_keys("project_in.weight")));
  return weights;
}

std::vector<WeightSpec> opt_attention_weights(const ModelSpec& spec, std::int32_t decoder_layer) {
  const std::int64_t h = spec.hidden;
  std::vector<WeightSpec> weights;
  WeightSpec qkv{"qkv.weight", 3 * h, h, {}, "", 0, 0.06F};
  qkv.role = WeightRole::linear;
  WeightSpec bias{"qkv.bias", 1, 3 * h, {}, "", 0, 0.06F};
  for (const char* part : {"q_proj", "k_proj", "v_proj"}) {
    const std::string stem = layer_stem(decoder_layer, "self_attn.") + part;
    qkv.sources.push_back({decoder_keys(stem + ".weight"), h * h});
    bias.sources.push_back({decoder_keys(stem + ".bias"), h});
  }
  weights.push_back(std::move(qkv));
  if (spec.attention.bias) weights.push_back(std::move(bias));
  add_linear(weights, spec, "out", h, h, layer_stem(decoder_layer, "self_attn.out_proj"));
  add_norm(weights, spec, "norm", decoder_keys(layer_stem(decoder_layer, "self_attn_layer_norm")));
  set_mean_input(weights, spec);
  return weights;
}

std::vector<WeightSpec> opt_mlp_weights(const ModelSpec& spec, std::int32_t decoder_layer) {
  std::vector<WeightSpec> weights;
  add_linear(weights, spec, "fc1", spec.mlp.width, spec.hidden, layer_stem(decoder_layer, "fc1"));
  add_linear(weights, spec, "fc2", spec.hidden, spec.mlp.width, layer_stem(decoder_layer, "fc2"));
  add_norm(weights, spec, "norm", decoder_keys(layer_stem(decoder_layer, "final_layer_norm")));
  set_mean_input(weights, spec);
  return weights;
}

std::vector<WeightSpec> opt_head_weights(const ModelSpec& spec) {
  std::vector<WeightSpec> weights;
  if (spec.head.norm) {
    std::vector<std::string> stems = decoder_keys("final_layer_norm");
    for (std::string& old_name : decoder_keys("layer_norm")) stems.push_back(std::move(old_name));
    add_norm(weights, spec, "norm", stems);
  }
  if (spec.has_projections())
    weights.push_back(
        matrix("project_out.weight", spec.embedding.width, spec.hidden, decoder_keys("project_out.weight")));
  if (spec.head.tied) {
    weights.push_back(token_table(spec));
  } else {
    weights.push_back(
        matrix("head.weight", spec.vocab, spec.embedding.width, {"lm_head.weight", "model.lm_head.weight"}));
    weights.back().role = WeightRole::table;
  }
  return weights;
}

}  // namespace flexgen
