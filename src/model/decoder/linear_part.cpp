#include "model/decoder/linear_part.hpp"

namespace flexgen {

LinearPart::LinearPart(const std::string& name, std::span<const Rows> rows, std::int64_t cols, bool bias,
                       WeightList& list) {
  WeightSpec matrix;
  WeightSpec vector;
  for (const Rows& part : rows) {
    matrix.sources.push_back({list.keys(part.stem + ".weight"), part.count * cols});
    vector.sources.push_back({list.keys(part.stem + ".bias"), part.count});
    matrix.rows += part.count;
  }
  matrix.name = name + ".weight";
  matrix.cols = cols;
  matrix.role = WeightRole::linear;
  vector.name = name + ".bias";
  vector.rows = 1;
  vector.cols = matrix.rows;
  weight_ = list.add(std::move(matrix));
  if (bias) bias_ = list.add(std::move(vector));
}

void LinearPart::apply(const OpContext& context, std::span<const MatrixView> weights, const MatrixView& x,
                       const MatrixView& out, const Extras& extras) const {
  LinearArgs args;
  args.x = x;
  args.weight = weights[weight_];
  if (bias_) args.bias = weights[*bias_];
  args.activation = extras.activation;
  args.residual = extras.residual;
  args.out = out;
  linear(context, args);
}

void LinearPart::set_fed_by(const Norm& norm, WeightList& list) const {
  if (bias_ && norm.mean_output()) list[weight_].mean_input = static_cast<std::int32_t>(*norm.mean_output());
}

}  // namespace flexgen
