// The weights of a layer, as the layer's parts list them: once, for the description and for the computation.
//
// A part lists what it holds while it is made, and keeps the indices; a call's weights stand in the same order. The
// list is the layer's own; this is a view of it, for the making of one part.
#pragma once

#include <string>
#include <vector>

#include "spec/layer_description.hpp"

namespace flexgen {

/// Of a weight among those of its layer.
using WeightIndex = std::size_t;

class WeightList {
 public:
  /// @param prefixes  of the part's tensors in checkpoints, any of them
  WeightList(std::vector<WeightSpec>& weights, std::vector<std::string> prefixes)
      : weights_(weights), prefixes_(std::move(prefixes)) {}

  /// A matrix that one tensor of a checkpoint holds.
  WeightIndex add(const std::string& name, std::int64_t rows, std::int64_t cols, std::vector<std::string> keys,
                  WeightRole role = WeightRole::plain);
  WeightIndex add(WeightSpec weight);
  WeightSpec& operator[](WeightIndex index) { return weights_[index]; }

  /// The tensor's name behind each prefix.
  std::vector<std::string> keys(const std::string& name) const;

 private:
  std::vector<WeightSpec>& weights_;
  std::vector<std::string> prefixes_;
};

}  // namespace flexgen
