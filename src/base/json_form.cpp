#include "base/json_form.hpp"

#include <cmath>
#include <stdexcept>

namespace flexgen {

void check_field_number(const char* name, double value) {
  if (!std::isfinite(value) || value < 0)
    throw std::domain_error(std::string("'") + name + "' must be a number that is not negative");
}

}  // namespace flexgen
