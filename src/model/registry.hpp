// The model families that we run: a file each in model/families, a line each in families.cpp there.
#pragma once

#include <span>
#include <string_view>

#include "model/decoder/checkpoint_names.hpp"

namespace flexgen {

struct ModelFamily {
  std::string_view name;  // `model_type` of its config.json; ModelSpec::family
  CheckpointNames names;
};

/// All of them. Stands in a source of its own, so that a program (a test) may be linked with other families.
std::span<const ModelFamily> model_families();

/// Throws UserError (model) for a family that is not registered.
const ModelFamily& find_family(std::string_view name);

}  // namespace flexgen
