// Names, shapes and checkpoint keys of OPT's weights.
#pragma once

#include <string>
#include <vector>

#include "spec/layer_description.hpp"
#include "spec/model_spec.hpp"

namespace flexgen {

std::vector<WeightSpec> opt_embedding_weights(const ModelSpec& spec);
std::vector<WeightSpec> opt_attention_weights(const ModelSpec& spec, std::int32_t decoder_layer);
std::vector<WeightSpec> opt_mlp_weights(const ModelSpec& spec, std::int32_t decoder_layer);
std::vector<WeightSpec> opt_head_weights(const ModelSpec& spec);

}  // namespace flexgen
