#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "base/error.hpp"
#include "model/layer.hpp"

namespace flexgen {
namespace {

std::int64_t elements(const Layers& layers) {
  std::int64_t total = 0;
  for (const auto& layer : layers) total += layer->description().num_elements();
  return total;
}

}  // namespace

std::vector<SliceBounds> balanced_slices(const ModelSpec& spec, std::int32_t num_stages) {
  if (num_stages > spec.num_layers)
    throw UserError(
        ExitCode::usage,
        "cannot cut " + std::to_string(spec.num_layers) + " layers into " + std::to_string(num_stages) + " slices",
        "every rank needs at least one layer", "Start at most " + std::to_string(spec.num_layers) + " ranks");
  const std::int64_t per_layer = elements(make_layers(spec, {0, 1, false, false}, false));
  const std::int64_t embedding = elements(make_layers(spec, {0, 0, true, false}, false));
  const std::int64_t head = elements(make_layers(spec, {0, 0, false, true}, false));
  const auto stages = static_cast<std::size_t>(num_stages);
  const auto layers = static_cast<std::size_t>(spec.num_layers);

  // Smallest possible largest stage: least[s][n] is the best maximum for the first n layers in s stages.
  const auto cost = [&](std::size_t stage, std::size_t count) {
    return static_cast<std::int64_t>(count) * per_layer + (stage == 0 ? embedding : 0) +
           (stage + 1 == stages ? head : 0);
  };
  constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();
  std::vector<std::vector<std::int64_t>> least(stages + 1, std::vector<std::int64_t>(layers + 1, never));
  std::vector<std::vector<std::size_t>> taken(stages + 1, std::vector<std::size_t>(layers + 1, 0));
  least[0][0] = 0;
  for (std::size_t s = 0; s < stages; ++s)
    for (std::size_t n = s; n < layers; ++n) {
      if (least[s][n] == never) continue;
      for (std::size_t count = 1; n + count <= layers; ++count) {
        const std::int64_t largest = std::max(least[s][n], cost(s, count));
        if (largest < least[s + 1][n + count]) {
          least[s + 1][n + count] = largest;
          taken[s + 1][n + count] = count;
        }
      }
    }

  std::vector<SliceBounds> bounds(stages);
  std::size_t end = layers;
  for (std::size_t s = stages; s-- > 0;) {
    const std::size_t count = taken[s + 1][end];
    end -= count;
    bounds[s] = {static_cast<std::int32_t>(end), static_cast<std::int32_t>(count), s == 0, s + 1 == stages};
  }
  return bounds;
}

}  // namespace flexgen
