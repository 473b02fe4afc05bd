#include <cmath>

#include "ops/element_access.hpp"
#include "ops/linear.hpp"
#include "ops/quantize_rows.hpp"

namespace flexgen {

void linear_reference(const LinearArgs& args) {
  const auto at = [](const MatrixView& view, std::int64_t row, std::int64_t col) -> double {
    return load_element(view.row(row), view.dtype, col);
  };
  for (std::int64_t t = 0; t < args.x.rows; ++t) {
    for (std::int64_t o = 0; o < args.weight.rows; ++o) {
      double sum = 0.0;
      for (std::int64_t i = 0; i < args.x.cols; ++i) sum += at(args.x, t, i) * row_element(args.weight, o, i);
      if (args.bias) sum += at(*args.bias, 0, o);
      if (args.activation == Activation::relu && sum < 0.0) sum = 0.0;  // a NaN stays
      if (args.activation == Activation::gelu) sum = 0.5 * sum * (1.0 + std::erf(sum / std::sqrt(2.0)));
      if (args.residual) sum += at(*args.residual, t, o);
      store_element(args.out.row(t), args.out.dtype, o, static_cast<float>(sum));
    }
  }
}

}  // namespace flexgen
