// The layers of a decoder-only transformer, made of the parts that a spec names.
#pragma once

#include "model/decoder/checkpoint_names.hpp"
#include "model/layer.hpp"

namespace flexgen {

/// As make_layers; a parallel block is one layer even where layers are to be separate.
Layers make_decoder_layers(const ModelSpec& model, const CheckpointNames& names, const SliceBounds& bounds,
                           bool separate_layers);

}  // namespace flexgen
