// Upper bounds of a micro-batch's attention, of which its scratch follows, on the host and on a GPU. Plain data.
#pragma once

#include <cstdint>

#include "spec/dtype.hpp"
#include "spec/quantization.hpp"

namespace flexgen {

struct AttentionSizes {
  std::int64_t rows = 0;
  std::int64_t num_heads = 0;  // of the cache
  std::int64_t head_dim = 0;
  /// Positions of a row, those of the cache included; on a GPU only of rows that bring several tokens, and of what rows
  /// share.
  std::int64_t longest = 0;
  DType dtype = DType::float32;
  QuantFormat quant = {};  // of the cache
  float sparsity = 1.0F;
  bool shares_spans = false;  // rows may share some (SharedSpans)
};

}  // namespace flexgen
