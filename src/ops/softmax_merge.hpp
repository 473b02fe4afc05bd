// A softmax over positions that are seen in parts: what is kept of a part, how it grows, how parts become one. The one
// definition for the kernels of the host and the GPU. Source: Milakov and Gimelshein 2018 (online softmax).
//
// A part's state has its largest score and the sum of its weights, which count relative to that score; so do the sums
// of values that a kernel keeps beside it, in an order of its own. To count relative to a larger score, sums are
// multiplied by a factor, shrink(from, to): exp(from - to) in the kernel's own base and precision.
//
// Plain data and arithmetic; any thread.
#pragma once

#include <cmath>

#include "ops/host_device.hpp"

namespace flexgen {

/// "No position seen yet" as a score: finite, so that differences of two such are no NaN.
inline constexpr float kNoScore = -1e30F;

struct alignas(8) SoftmaxState {
  float largest;  // score
  float weight;   // sum over the positions seen
};

FLEXGEN_HOST_DEVICE SoftmaxState nothing_seen() { return {kNoScore, 0.0F}; }

/// Makes the state relative to `largest`, no less than its own; returns the factor for the sums beside it.
template <class Shrink>
FLEXGEN_HOST_DEVICE float raise_largest(SoftmaxState& state, float largest, const Shrink& shrink) {
  const float factor = shrink(state.largest, largest);
  state.largest = largest;
  state.weight *= factor;
  return factor;
}

/// The state of all parts together, the first `count` of kParts. factor[i]: for the sums beside part i, which are then
/// added up.
template <int kParts, class Shrink>
FLEXGEN_HOST_DEVICE SoftmaxState softmax_merge(const SoftmaxState* part, int count, float (&factor)[kParts],
                                               const Shrink& shrink) {
  SoftmaxState all = nothing_seen();
  FLEXGEN_UNROLL
  for (int i = 0; i < kParts; ++i) {
    if (i < count) all.largest = fmaxf(all.largest, part[i].largest);
  }
  FLEXGEN_UNROLL
  for (int i = 0; i < kParts; ++i) {
    if (i >= count) continue;
    factor[i] = shrink(part[i].largest, all.largest);
    all.weight = fmaf(part[i].weight, factor[i], all.weight);
  }
  return all;
}

}  // namespace flexgen
