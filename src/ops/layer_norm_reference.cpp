#include <cmath>

#include "ops/element_access.hpp"
#include "ops/layer_norm.hpp"

namespace flexgen {

void layer_norm_reference(const LayerNormArgs& args) {
  const std::int64_t hidden = args.x.cols;
  for (std::int64_t t = 0; t < args.x.rows; ++t) {
    const std::byte* x = args.x.row(t);
    double mean = 0.0;
    for (std::int64_t i = 0; i < hidden; ++i) mean += load_element(x, args.x.dtype, i);
    mean /= static_cast<double>(hidden);
    double variance = 0.0;
    for (std::int64_t i = 0; i < hidden; ++i) {
      const double centred = load_element(x, args.x.dtype, i) - mean;
      variance += centred * centred;
    }
    variance /= static_cast<double>(hidden);
    const double factor = 1.0 / std::sqrt(variance + args.epsilon);
    for (std::int64_t i = 0; i < hidden; ++i) {
      double value = (load_element(x, args.x.dtype, i) - mean) * factor;
      if (args.gamma) value *= load_element(args.gamma->data, args.gamma->dtype, i);
      if (args.beta) value += load_element(args.beta->data, args.beta->dtype, i);
      store_element(args.out.row(t), args.out.dtype, i, static_cast<float>(value));
    }
  }
}

}  // namespace flexgen
