// The model families that we run: one line per family, in registry.cpp.
#pragma once

#include <string_view>

#include "model/layer.hpp"

namespace flexgen {

struct ModelFamily {
  std::string_view name;  // ModelSpec::family
  Layers (*make_layers)(const ModelSpec&, const SliceBounds&, bool separate_layers);
};

/// Throws UserError (model) for a family that is not registered.
const ModelFamily& find_family(std::string_view name);

}  // namespace flexgen
