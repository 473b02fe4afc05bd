#include "model/registry.hpp"

#include <string>

#include "base/error.hpp"
#include "model/decoder/decoder.hpp"

namespace flexgen {

const ModelFamily& find_family(std::string_view name) {
  for (const ModelFamily& family : model_families())
    if (family.name == name) return family;
  throw UserError(ExitCode::model, "cannot run a model of family '" + std::string(name) + "'", "it is not registered",
                  "This program runs OPT");
}

Layers make_layers(const ModelSpec& spec, const SliceBounds& bounds, bool separate_layers) {
  return make_decoder_layers(spec, find_family(spec.family).names, bounds, separate_layers);
}

std::vector<LayerDescription> describe(const Layers& layers) {
  std::vector<LayerDescription> descriptions;
  for (const auto& layer : layers) descriptions.push_back(layer->description());
  return descriptions;
}

}  // namespace flexgen
