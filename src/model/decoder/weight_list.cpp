#include "model/decoder/weight_list.hpp"

namespace flexgen {
namespace {

constexpr float random_scale = 0.06F;  // made-up weights lie within it of their centre

}  // namespace

WeightIndex WeightList::add(const std::string& name, std::int64_t rows, std::int64_t cols,
                            std::vector<std::string> keys, WeightRole role) {
  WeightSpec weight;
  weight.name = name;
  weight.rows = rows;
  weight.cols = cols;
  weight.sources = {{std::move(keys), rows * cols}};
  weight.role = role;
  return add(std::move(weight));
}

WeightIndex WeightList::add(WeightSpec weight) {
  weight.random_scale = random_scale;
  weights_.push_back(std::move(weight));
  return weights_.size() - 1;
}

std::vector<std::string> WeightList::keys(const std::string& name) const {
  std::vector<std::string> all;
  for (const std::string& prefix : prefixes_) all.push_back(prefix + name);
  return all;
}

}  // namespace flexgen
