// Between plain and compressed matrices (spec/quantization.hpp).
//
// Encoding of a group g[0..n), all in float32, h() rounding to float16, q the largest code:
//   start: minimum = h(min g), scale = h((max g - min g) / q)
//   codes: c[i] = clamp(rint((g[i] - minimum) / scale), 0, q), all 0 where scale is 0
//   refine, up to `refinements` times: the least-squares line through (c[i], g[i]) gives a new scale and minimum,
//   rounded by h(), and new codes; kept when the sum of squared errors gets smaller, else the refining ends.
// A group whose scale or minimum would not be finite in float16 keeps what was finite; inputs beyond +-65504 are
// clamped. Source: group-wise min/max as in FlexGen; alternating least squares as in Lloyd's algorithm.
#pragma once

#include "ops/context.hpp"
#include "ops/matrix_view.hpp"

namespace flexgen {

inline constexpr int weight_refinements = 8;
inline constexpr int cache_refinements = 2;

/// from [rows, cols] plain, to the same shape compressed. On the host only. Throws InternalError where shapes differ;
/// returns false when `from` holds a NaN or an infinity (codes are then meaningless).
bool quantize_rows(const MatrixView& from, const MatrixView& to, int refinements);
bool quantize_rows_reference(const MatrixView& from, const MatrixView& to, int refinements);

/// from [rows, cols] compressed, to the same shape plain; rounds once. On the context's device.
void dequantize_rows(const OpContext& context, const MatrixView& from, const MatrixView& to);
void dequantize_rows_reference(const MatrixView& from, const MatrixView& to);

}  // namespace flexgen
