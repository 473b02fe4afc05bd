// What the spans that a row shares give to the attention of its single token: parts of its softmax, which
// span_decode.cuh computes for all rows of a span at once and the kernels of the row's own positions merge.
//
// A span is cut into pieces, each of which is one part of every row of the span. How many is a function of the span's
// length alone, so that a row's sums are the same beside any neighbours.
#pragma once

#include "ops/cuda/attention/params.cuh"
#include "ops/cuda/cuda_elements.cuh"
#include "ops/softmax_merge.hpp"
#include "spec/block_limits.hpp"

namespace flexgen {

/// Scores are in units of log2: see softmax_merge.hpp.
struct Shrink {
  __device__ float operator()(float from, float to) const { return exp2_fast(from - to); }
};

inline constexpr int kLeastPieceGrains = 2;  // prefix_grains of a piece, unless the span is shorter
inline constexpr int kMostPieces = 4;        // of a span

struct SpanPieces {
  int length;  // of all but the last
  int count;
};
__host__ __device__ inline SpanPieces pieces_of(int span_length) {
  const int grains = span_length / prefix_grain;
  const int most = (grains + kMostPieces - 1) / kMostPieces;
  const int each = most > kLeastPieceGrains ? most : kLeastPieceGrains;
  return {each * prefix_grain, (grains + each - 1) / each};
}

/// Parts of rows' softmax, [rows, num_heads, most] of them, of which a row has as many as its spans have pieces, in
/// their order.
struct SpanParts {
  SoftmaxState* state;
  float* sum;  // [head_dim] each
  int most;
};

__device__ inline int num_span_parts(const SpanTables& shared, int row) {
  int count = 0;
  for (int i = shared.rows.first[row]; i < shared.rows.first[row + 1]; ++i)
    count += pieces_of(shared.spans[shared.rows.index[i]].length).count;
  return count;
}

/// Merges the row's parts into the state of the rest, `all`; returns what becomes of dimension d's sum beside it.
/// pair: row * num_heads + head.
__device__ inline float add_span_parts(const SpanParts& parts, std::int64_t pair, int count, int head_dim, int d,
                                       SoftmaxState& all, float sum) {
  const std::int64_t first = pair * parts.most;
  const SoftmaxState* state = parts.state + first;
  float largest = all.largest;
  for (int i = 0; i < count; ++i) largest = fmaxf(largest, state[i].largest);
  sum *= raise_largest(all, largest, Shrink{});
#pragma unroll 4
  for (int i = 0; i < count; ++i) {
    const float factor = Shrink{}(state[i].largest, largest);
    all.weight = fmaf(state[i].weight, factor, all.weight);
    sum = fmaf(parts.sum[(first + i) * head_dim + d], factor, sum);
  }
  return sum;
}

}  // namespace flexgen
