#include <array>

#include "model/registry.hpp"

namespace flexgen {

ModelFamily opt_family();

std::span<const ModelFamily> model_families() {
  static const std::array families{opt_family()};
  return families;
}

}  // namespace flexgen
