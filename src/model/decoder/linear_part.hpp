// A linear layer as a part of a layer. Immutable once made.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/decoder/norm.hpp"
#include "model/decoder/weight_list.hpp"
#include "ops/linear.hpp"

namespace flexgen {

class LinearPart {
 public:
  /// Rows of the matrix that a checkpoint keeps together, and what it calls them.
  struct Rows {
    std::string stem;
    std::int64_t count = 0;
  };
  LinearPart(const std::string& name, std::span<const Rows> rows, std::int64_t cols, bool bias, WeightList& list);

  struct Extras {
    Activation activation = Activation::none;
    std::optional<MatrixView> residual = std::nullopt;  // LinearArgs::residual
  };
  /// x [tokens, cols] -> out [tokens, rows]
  void apply(const OpContext& context, std::span<const MatrixView> weights, const MatrixView& x, const MatrixView& out,
             const Extras& extras) const;

  /// Says that what this norm gives is all that comes in: compression then corrects the bias.
  void set_fed_by(const Norm& norm, WeightList& list) const;

 private:
  WeightIndex weight_ = 0;
  std::optional<WeightIndex> bias_;
};

}  // namespace flexgen
