// Attention on keys and values as they are stored: the entry points (part of kernels_body.hpp).
#pragma once

#include "ops/host/stored/codes_body.hpp"
#include "ops/host/stored/pairs_body.hpp"
#include "ops/host/stored/plain_body.hpp"

namespace flexgen {
namespace {

/// Calls body.template operator()<Positions>(tile, first position) for all positions, four at a time.
template <class Body>
FLEXGEN_ALWAYS_INLINE void for_tiles(std::int64_t count, const Body& body) {
  std::int64_t first = 0;
  for (; first + kPositions <= count; first += kPositions) body.template operator()<kPositions>(first);
  switch (count - first) {
    case 3: body.template operator()<3>(first); break;
    case 2: body.template operator()<2>(first); break;
    case 1: body.template operator()<1>(first); break;
    default: break;
  }
}

/// Positions first .. of a run, and as what comes next those after them, or the beginning of `next`.
FLEXGEN_ALWAYS_INLINE Tile run_tile(const StoredHeads& heads, const StoredPlace& place, const StoredPlace& next,
                                    std::int64_t count, std::int64_t first) {
  Tile tile;
  const bool last = first + kPositions >= count;
  const std::int64_t stride = heads.position_stride;
  const auto parameters_of = [](const StoredPlace& of) { return of.parameters == nullptr ? of.data : of.parameters; };
  const StoredPlace at = {place.data + first * stride, parameters_of(place) + first * stride};
  StoredPlace ahead = at;
  if (!last) ahead = {at.data + kPositions * stride, at.parameters + kPositions * stride};
  else if (next.data != nullptr) ahead = {next.data, parameters_of(next)};
  for (int p = 0; p < kPositions; ++p) {
    tile.data[p] = at.data + p * stride;
    tile.parameters[p] = at.parameters + p * stride;
    tile.next[p] = ahead.data + p * stride;
    tile.next_parameters[p] = ahead.parameters + p * stride;
  }
  return tile;
}

/// Calls body.template operator()<Format>() with a type that says how elements are stored.
template <int NumBits>
struct CodesOf {
  static constexpr int bits = NumBits;
};
template <class T>
struct ElementsOf {
  static constexpr int bits = 0;
  using Element = T;
};
template <class Body>
FLEXGEN_ALWAYS_INLINE void for_format(const StoredHeads& heads, const Body& body) {
  if (heads.quant.bits == 4) return body(CodesOf<4>{});
  if (heads.quant.bits == 8) return body(CodesOf<8>{});
  switch (heads.dtype) {
    case DType::float32: return body(ElementsOf<float>{});
    case DType::float16: return body(ElementsOf<Half>{});
    case DType::bfloat16: return body(ElementsOf<BFloat16>{});
    case DType::float64: return;  // never a cache's
  }
}

void scores(const StoredHeads& heads, const StoredPlace& keys, const StoredPlace& next, std::int64_t num_positions,
            const float* queries, float* score, std::int64_t score_stride, float* scratch) {
  for_format(heads, [&]<class Format>(Format) {
    if constexpr (Format::bits == 0) {
      for_tiles(num_positions, [&]<int Positions>(std::int64_t first) {
        plain_scores<typename Format::Element, Positions>(heads, run_tile(heads, keys, next, num_positions, first),
                                                          queries, score + first, score_stride);
      });
    } else {
      const GroupIndex index(heads);
      const WordShape& shape = index.shape;
      for_tiles(num_positions, [&]<int Positions>(std::int64_t first) {
        const Tile tile = run_tile(heads, keys, next, num_positions, first);
#if defined(__AVX512F__)
        if (shape.is_half())
          return paired_scores<Format::bits, Positions>(heads, tile, queries, score + first, score_stride, index,
                                                        scratch);
#endif
        for_fill(shape, [&]<class HeadFill>(HeadFill) {
          compressed_scores<Format::bits, Positions, HeadFill>(heads, tile, queries, score + first, score_stride, index,
                                                               scratch);
        });
      });
    }
  });
}

template <class Format, int Positions>
FLEXGEN_ALWAYS_INLINE void add_tile(const StoredHeads& heads, const Tile& tile, const float* weight,
                                    std::int64_t weight_stride, float* sums, const GroupIndex* index, float* scratch) {
#if defined(__AVX512F__)
  if constexpr (Format::bits != 0) {
    if (index->shape.is_half())
      return paired_values<Format::bits, Positions>(heads, tile, weight, weight_stride, sums, *index, scratch);
  }
#endif
  if constexpr (Format::bits == 0) {
    plain_values<typename Format::Element, Positions>(heads, tile, weight, weight_stride, sums);
  } else {
    for_fill(index->shape, [&]<class HeadFill>(HeadFill) {
      compressed_values<Format::bits, Positions, HeadFill>(heads, tile, weight, weight_stride, sums, *index, scratch);
    });
  }
}

template <class Body>
FLEXGEN_ALWAYS_INLINE void with_index(const StoredHeads& heads, const Body& body) {
  if (heads.quant.is_none()) return body(nullptr);
  const GroupIndex index(heads);
  body(&index);
}

void add_values(const StoredHeads& heads, const StoredPlace& values, const StoredPlace& next,
                std::int64_t num_positions, const float* weight, std::int64_t weight_stride, float* sums,
                float* scratch) {
  with_index(heads, [&](const GroupIndex* index) {
    for_format(heads, [&]<class Format>(Format) {
      for_tiles(num_positions, [&]<int Positions>(std::int64_t first) {
        add_tile<Format, Positions>(heads, run_tile(heads, values, next, num_positions, first), weight + first,
                                    weight_stride, sums, index, scratch);
      });
    });
  });
}

void add_chosen_values(const StoredHeads& heads, const StoredPlace& values, const std::int32_t* position,
                       std::int64_t count, const float* weight, float* sums, float* scratch) {
  with_index(heads, [&](const GroupIndex* index) {
    for_format(heads, [&]<class Format>(Format) {
      for_tiles(count, [&]<int Positions>(std::int64_t first) {
        Tile tile;
        for (int p = 0; p < Positions; ++p) {
          const std::int64_t following = first + p + (first + kPositions + p < count ? kPositions : 0);
          const std::int64_t at = position[first + p] * heads.position_stride;
          const std::int64_t ahead = position[following] * heads.position_stride;
          const std::byte* parameters = values.parameters == nullptr ? values.data : values.parameters;
          tile.data[p] = values.data + at, tile.parameters[p] = parameters + at;
          tile.next[p] = values.data + ahead, tile.next_parameters[p] = parameters + ahead;
        }
        add_tile<Format, Positions>(heads, tile, weight + first, 0, sums, index, scratch);
      });
    });
  });
}

}  // namespace
}  // namespace flexgen
