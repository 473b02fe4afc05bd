// A family that nobody trains: a parallel block, other norms, other names, attention without biases, an own head.
#include "model/config.hpp"
#include "model/registry.hpp"

namespace flexgen {
namespace {

CheckpointNames made_up_names() {
  CheckpointNames names;
  names.prefixes = {"trunk."};
  names.tokens = "words";
  names.positions = "places";
  names.layers = "floor";
  names.qkv = {"look.in"};
  names.attention_out = "look.out";
  names.attention_norm = "look.norm";
  names.mlp_in = "think.up";
  names.mlp_out = "think.down";
  names.mlp_norm = "think.norm";
  names.final_norm = {"roof"};
  names.head = {"mouth.weight"};
  return names;
}

void read_parts(const Config& config, ModelSpec& spec) {
  spec.num_layers = config.count("floors");
  spec.hidden = config.count("width");
  spec.vocab = config.count("words");
  spec.max_positions = config.count("places");
  spec.embedding.width = spec.hidden;
  spec.attention = AttentionSpec::of_heads(config.count("eyes"), spec.hidden);
  spec.attention.bias = false;
  spec.mlp = {config.count("thoughts"), ActivationKind::gelu, true};
  spec.norm.epsilon = 1e-3F;
  spec.residual = Residual::parallel;
  spec.head.tied = false;
}

}  // namespace

ModelFamily made_up_family() { return {"made_up", "one that is made up", read_parts, made_up_names()}; }

}  // namespace flexgen
