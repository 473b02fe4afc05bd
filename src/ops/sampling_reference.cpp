#include <algorithm>
#include <cmath>
#include <limits>

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
    if (best >= 0 && load_element(logits.row(r), logits.dtype, best) == std::numeric_limits<float>::infinity())
      best = -1;
    token[r] = best;
  }
}

void log_probabilities_reference(const MatrixView& logits, const std::int32_t* target, float* score) {
  for (std::int64_t r = 0; r < logits.rows; ++r) {
    score[r] = 0.0F;
    if (target[r] < 0) continue;
    double largest = load_element(logits.row(r), logits.dtype, 0);
    for (std::int64_t i = 1; i < logits.cols; ++i)
      largest = std::max<double>(largest, load_element(logits.row(r), logits.dtype, i));
    double sum = 0;
    for (std::int64_t i = 0; i < logits.cols; ++i)
      sum += std::exp(load_element(logits.row(r), logits.dtype, i) - largest);
    score[r] = static_cast<float>(load_element(logits.row(r), logits.dtype, target[r]) - largest - std::log(sum));
  }
}

}  // namespace flexgen
