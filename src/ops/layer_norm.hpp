// LayerNorm over the last axis; statistics in float32 whatever the dtype. Source: Ba et al. 2016.
#pragma once

#include <optional>

#include "ops/context.hpp"
#include "ops/matrix_view.hpp"

namespace flexgen {

struct LayerNormArgs {
  MatrixView x;                     // [tokens, hidden]
  std::optional<MatrixView> gamma;  // [1, hidden]; absent: 1
  std::optional<MatrixView> beta;   // [1, hidden]; absent: 0
  float epsilon = 1e-5F;
  MatrixView out;  // [tokens, hidden], x's dtype; may be x itself
};

void layer_norm(const OpContext& context, const LayerNormArgs& args);
void layer_norm_reference(const LayerNormArgs& args);

}  // namespace flexgen
