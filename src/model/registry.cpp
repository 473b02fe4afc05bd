#include "model/registry.hpp"

#include <array>
#include <string>

#include "base/error.hpp"
#include "model/opt.hpp"

namespace flexgen {
namespace {

constexpr std::array<ModelFamily, 1> families{{
    {"opt", make_opt_layers},
}};

}  // namespace

const ModelFamily& find_family(std::string_view name) {
  for (const ModelFamily& family : families)
    if (family.name == name) return family;
  throw UserError(ExitCode::model, "cannot run a model of family '" + std::string(name) + "'", "it is not registered",
                  "This program runs OPT");
}

Layers make_layers(const ModelSpec& spec, const SliceBounds& bounds, bool separate_layers) {
  return find_family(spec.family).make_layers(spec, bounds, separate_layers);
}

std::vector<LayerDescription> describe(const Layers& layers) {
  std::vector<LayerDescription> descriptions;
  for (const auto& layer : layers) descriptions.push_back(layer->description());
  return descriptions;
}

}  // namespace flexgen
