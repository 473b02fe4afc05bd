// The model families that we run: a file each in model/families, a line each in families.cpp there.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "model/decoder/checkpoint_names.hpp"
#include "spec/model_spec.hpp"

namespace flexgen {

class Config;

struct ModelFamily {
  std::string_view name;      // `model_type` of its config.json; ModelSpec::family
  std::string_view contains;  // what users know it by, for messages
  /// From its config.json to the parts of the spec. Refuses what cannot be computed.
  void (*read_parts)(const Config& config, ModelSpec& spec) = nullptr;
  CheckpointNames names;
};

/// All of them. Stands in a source of its own, so that a program (a test) may be linked with other families.
std::span<const ModelFamily> model_families();

/// A sentence that names them all.
std::string what_we_run();

/// Throws UserError (model) for a family that is not registered.
const ModelFamily& find_family(std::string_view name);

}  // namespace flexgen
