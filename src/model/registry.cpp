#include "model/registry.hpp"

#include <fmt/core.h>

#include <set>
#include <string>

#include "base/error.hpp"
#include "model/decoder/decoder.hpp"

namespace flexgen {

std::string what_we_run() {
  std::string all;
  for (const ModelFamily& family : model_families())
    all += fmt::format("{}{}", all.empty() ? "This program runs " : ", ", family.contains);
  return all;
}

const ModelFamily& find_family(std::string_view name) {
  for (const ModelFamily& family : model_families())
    if (family.name == name) return family;
  throw UserError(ExitCode::model, "cannot run a model of family '" + std::string(name) + "'", "it is not registered",
                  what_we_run());
}

Layers make_layers(const ModelSpec& spec, const SliceBounds& bounds, bool separate_layers) {
  return make_decoder_layers(spec, find_family(spec.family).names, bounds, separate_layers);
}

std::vector<LayerDescription> describe(const Layers& layers) {
  std::vector<LayerDescription> descriptions;
  for (const auto& layer : layers) descriptions.push_back(layer->description());
  return descriptions;
}

std::uint64_t num_parameters(const ModelSpec& spec) {
  std::int64_t total = 0;
  std::set<std::string> shared;
  for (const auto& layer : make_layers(spec, {0, spec.num_layers, true, true}, false))
    for (const WeightSpec& weight : layer->description().weights)
      if (weight.shared_as.empty() || shared.insert(weight.shared_as).second) total += weight.num_elements();
  return static_cast<std::uint64_t>(total);
}

}  // namespace flexgen
