// Describes a slice to those who plan its memory.
#pragma once

#include "device/device.hpp"
#include "spec/model_spec.hpp"
#include "spec/slice_description.hpp"

namespace flexgen {

/// The slice's layers on `device`, and what computing with them takes there. `separate_layers`: attention and mlp are
/// two layers, else one block.
SliceDescription describe_slice(const ModelSpec& model, const SliceBounds& bounds, bool separate_layers,
                                const Device& device);

}  // namespace flexgen
