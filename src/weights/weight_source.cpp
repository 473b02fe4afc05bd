#include "weights/weight_source.hpp"

#include "base/error.hpp"

namespace flexgen {

void WeightReader::produce_compressed(const WeightSpec& weight, const QuantFormat&, std::int64_t, std::int64_t,
                                      std::byte*) {
  FLEXGEN_CHECK(false, "no compressed rows of '" + weight.name + "' come from a source that is not compressed");
}

}  // namespace flexgen
