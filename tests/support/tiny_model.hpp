// A model small enough for a test's every step, with sizes that are no powers of two.
#pragma once

#include "spec/model_spec.hpp"

namespace flexgen::test {

inline ModelSpec tiny_model(std::int32_t num_layers = 4) {
  ModelSpec spec;
  spec.family = "opt";
  spec.name = "tiny";
  spec.num_layers = num_layers;
  spec.hidden = 36;
  spec.vocab = 131;
  spec.max_positions = 64;
  spec.embedding = {36, 2};
  spec.attention = AttentionSpec::of_heads(3, 36);
  spec.mlp.width = 52;
  return spec;
}

}  // namespace flexgen::test
