// Plain keys and values, up to four positions at a time (part of kernels_body.hpp).
#pragma once

#include "ops/host/stored/shape_body.hpp"

namespace flexgen {
namespace {

template <class Element, int Positions>
[[gnu::noinline]] void plain_scores(const StoredHeads& heads, const Tile& tile, const float* q, float* score,
                                    std::int64_t score_stride) {
  const std::int64_t dim = heads.head_dim, whole = dim / kLanes * kLanes;
  for (std::int64_t h = 0; h < heads.num_heads; ++h, q += whole_lanes(dim), score += score_stride) {
    const std::int64_t offset = h * heads.head_stride;
    fetch<Positions>(tile.next, offset, heads.head_stride);
    Floats sum[Positions];
#pragma GCC unroll 4
    for (int p = 0; p < Positions; ++p) sum[p] = broadcast(0.0F);
    for (std::int64_t d = 0; d < whole; d += kLanes) {
      const Floats row = load(q + d);
#pragma GCC unroll 4
      for (int p = 0; p < Positions; ++p)
        sum[p] = multiply_add(row, load(reinterpret_cast<const Element*>(tile.data[p] + offset) + d), sum[p]);
    }
    if (whole < dim) {
      const Floats row = load(q + whole);
#pragma GCC unroll 4
      for (int p = 0; p < Positions; ++p) {
        const auto* key = reinterpret_cast<const Element*>(tile.data[p] + offset);
        sum[p] = multiply_add(row, load_part(key + whole, dim - whole), sum[p]);
      }
    }
    put_scores(sum, score);
  }
}

template <class Element, int Positions, int Vectors>
FLEXGEN_ALWAYS_INLINE void add_plain(const Element* const (&value)[Positions], std::int64_t d,
                                     const Floats (&factor)[Positions], float* sums) {
  Floats sum[Vectors];
#pragma GCC unroll 8
  for (int i = 0; i < Vectors; ++i) sum[i] = load(sums + d + i * kLanes);
#pragma GCC unroll 4
  for (int p = 0; p < Positions; ++p) {
#pragma GCC unroll 8
    for (int i = 0; i < Vectors; ++i) sum[i] = multiply_add(factor[p], load(value[p] + d + i * kLanes), sum[i]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < Vectors; ++i) store(sums + d + i * kLanes, sum[i]);
}

template <class Element, int Positions>
[[gnu::noinline]] void plain_values(const StoredHeads& heads, const Tile& tile, const float* weight,
                                    std::int64_t weight_stride, float* sums) {
  const std::int64_t dim = heads.head_dim;
  for (std::int64_t h = 0; h < heads.num_heads; ++h, sums += whole_lanes(dim), weight += weight_stride) {
    const std::int64_t offset = h * heads.head_stride;
    fetch<Positions>(tile.next, offset, heads.head_stride);
    Floats factor[Positions];
    const Element* value[Positions];
#pragma GCC unroll 4
    for (int p = 0; p < Positions; ++p) {
      factor[p] = broadcast(weight[p]);
      value[p] = reinterpret_cast<const Element*>(tile.data[p] + offset);
    }
    std::int64_t d = 0;
    for (; d + 4 * kLanes <= dim; d += 4 * kLanes) add_plain<Element, Positions, 4>(value, d, factor, sums);
    for (; d + kLanes <= dim; d += kLanes) add_plain<Element, Positions, 1>(value, d, factor, sums);
    if (d < dim) {
      Floats sum = load(sums + d);
#pragma GCC unroll 4
      for (int p = 0; p < Positions; ++p) sum = multiply_add(factor[p], load_part(value[p] + d, dim - d), sum);
      store(sums + d, sum);
    }
  }
}

}  // namespace
}  // namespace flexgen
