// The families of this test program, in the place of model/families/families.cpp.
#include <array>

#include "model/registry.hpp"

namespace flexgen {

ModelFamily opt_family();
ModelFamily made_up_family();

std::span<const ModelFamily> model_families() {
  static const std::array families{opt_family(), made_up_family()};
  return families;
}

}  // namespace flexgen
