// OPT (Zhang et al. 2022, arXiv:2205.01068), all sizes, pre-norm and post-norm (opt-350m), with or without the
// projections around a narrower token table, biases, LayerNorm weights and final LayerNorm; ReLU or GELU.
#pragma once

#include "model/layer.hpp"

namespace flexgen {

Layers make_opt_layers(const ModelSpec& spec, const SliceBounds& bounds, bool separate_layers);

}  // namespace flexgen
