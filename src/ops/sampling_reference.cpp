#include <cmath>

#include "ops/element_access.hpp"
#include "ops/sampling.hpp"

namespace flexgen {

void argmax_rows_reference(const MatrixView& logits, std::int32_t* token) {
  for (std::int64_t r = 0; r < logits.rows; ++r) {
    std::int32_t best = 0;
    for (std::int64_t i = 0; i < logits.cols && best >= 0; ++i) {
      const float value = load_element(logits.row(r), logits.dtype, i);
      if (std::isnan(value)) best = -1;
      else if (value > load_element(logits.row(r), logits.dtype, best)) best = static_cast<std::int32_t>(i);
    }
    token[r] = best;
  }
}

}  // namespace flexgen
