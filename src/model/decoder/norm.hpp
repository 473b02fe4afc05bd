// LayerNorm as a part of a layer. Immutable once made.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/decoder/weight_list.hpp"
#include "ops/context.hpp"
#include "ops/matrix_view.hpp"
#include "spec/model_spec.hpp"

namespace flexgen {

class Norm {
 public:
  /// @param stems  names in a checkpoint, any of them
  Norm(const NormSpec& spec, std::int64_t width, const std::string& name, std::span<const std::string> stems,
       WeightList& list);

  /// x [tokens, width] -> out, which may be x itself.
  void apply(const OpContext& context, std::span<const MatrixView> weights, const MatrixView& x,
             const MatrixView& out) const;

  /// The vector about which what it gives lies; none: not known.
  std::optional<WeightIndex> mean_output() const { return beta_; }

 private:
  NormSpec spec_;
  std::optional<WeightIndex> gamma_;
  std::optional<WeightIndex> beta_;
};

}  // namespace flexgen
