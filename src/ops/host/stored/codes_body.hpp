// Compressed keys and values, up to four positions at a time (part of kernels_body.hpp).
#pragma once

#include "ops/host/stored/shape_body.hpp"

namespace flexgen {
namespace {

/// The parameters of some positions, widened: scales, and minima, of all heads.
class Parameters {
 public:
  template <int Positions>
  FLEXGEN_ALWAYS_INLINE void widen(const StoredHeads& heads, const WordShape& shape, const Tile& tile, float* scratch) {
    room_ = shape.parameter_floats(heads.num_heads);
    scratch_ = scratch;
    const bool together = heads.parameter_stride == shape.groups * 4;
    const std::int64_t runs = together ? 1 : heads.num_heads,
                       run = together ? heads.num_heads * shape.groups : shape.groups;
    for (int p = 0; p < Positions; ++p) {
      for (std::int64_t i = 0; i < runs; ++i)
        widen_run(tile.parameters[p] + i * heads.parameter_stride, run, scratch + 2 * p * room_ + i * shape.groups);
      if (!together) continue;
      for (std::int64_t line = 0; line < run * 4; line += 64) __builtin_prefetch(tile.next_parameters[p] + line, 0, 3);
    }
  }
  FLEXGEN_ALWAYS_INLINE Floats scales(int position, std::int64_t group, const Ints& index) const {
    return __builtin_shuffle(load(scratch_ + 2 * position * room_ + group), index);
  }
  FLEXGEN_ALWAYS_INLINE Floats minima(int position, std::int64_t group, const Ints& index) const {
    return __builtin_shuffle(load(scratch_ + (2 * position + 1) * room_ + group), index);
  }

 private:
  FLEXGEN_ALWAYS_INLINE static Floats halves(const Words& words) {
    const Shorts low = __builtin_convertvector(words, Shorts);
    return load(reinterpret_cast<const Half*>(&low));
  }
  FLEXGEN_ALWAYS_INLINE void widen_run(const std::byte* from, std::int64_t count, float* to) const {
    for (std::int64_t i = 0; i < count; i += kLanes) {
      const Words words = i + kLanes <= count ? load_words(from + i * 4) : load_words(from + i * 4, count - i);
      store(to + i, halves(words & 0xFFFFU));
      store(to + room_ + i, halves(words >> 16));
    }
  }

  float* scratch_ = nullptr;
  std::int64_t room_ = 0;
};

/// For every vector of words, which group (after the first of the vector's) each word belongs to.
struct GroupIndex {
  WordShape shape;
  Ints of[kMaxVectors];
  std::int64_t first[kMaxVectors];

  explicit GroupIndex(const StoredHeads& heads) : shape(heads) {
    const auto last = static_cast<std::int32_t>(shape.groups - 1);  // words beyond the head count for nothing
    std::int32_t group = 0;
    std::int64_t left = shape.words_per_group;  // of the group
    for (std::int64_t v = 0; v < shape.vectors; ++v) {
      first[v] = group;
      for (std::int64_t lane = 0; lane < shape.lanes; ++lane) {
        const std::int32_t own = (group < last ? group : last) - static_cast<std::int32_t>(first[v]);
        of[v][lane] = own;
        if (shape.is_half()) of[v][lane + shape.lanes] = own + last + 1;  // the next head's groups follow
        if (--left == 0) ++group, left = shape.words_per_group;
      }
    }
  }
};

/// How many vectors the words of a head take (0: any number), and whether the last has a rest.
template <int Vectors, bool Rest>
struct Fill {
  FLEXGEN_ALWAYS_INLINE static std::int64_t vectors(const WordShape& shape) {
    return Vectors > 0 ? Vectors : shape.vectors;
  }
  /// Words of vector v, at `from`.
  FLEXGEN_ALWAYS_INLINE static Words words(const WordShape& shape, std::int64_t v, const std::byte* from) {
    const std::int64_t left = shape.words - v * kLanes;
    return Rest && left < kLanes ? load_words(from, left) : load_words(from);
  }
};

template <class Body>
FLEXGEN_ALWAYS_INLINE void for_fill(const WordShape& shape, const Body& body) {
  if (shape.words == kLanes) body(Fill<1, false>{});
  else if (shape.words == 2 * kLanes) body(Fill<2, false>{});
  else if (shape.words < kLanes) body(Fill<1, true>{});
  else body(Fill<0, true>{});
}

template <int Bits, int Positions, class HeadFill>
[[gnu::noinline]] void compressed_scores(const StoredHeads& heads, const Tile& tile, const float* q, float* score,
                                         std::int64_t score_stride, const GroupIndex& index, float* scratch) {
  constexpr int kCodes = 32 / Bits;
  const WordShape& shape = index.shape;
  Parameters parameters;
  parameters.widen<Positions>(heads, shape, tile, scratch);
  for (std::int64_t h = 0; h < heads.num_heads; ++h, score += score_stride) {
    const std::int64_t offset = h * heads.head_stride;
    fetch<Positions>(tile.next, offset, heads.head_stride);
    Floats total[Positions];
#pragma GCC unroll 4
    for (int p = 0; p < Positions; ++p) total[p] = broadcast(0.0F);
    for (std::int64_t v = 0; v < HeadFill::vectors(shape); ++v, q += (kCodes + 1) * kLanes) {
      Words words[Positions];
      Floats sum[Positions];
#pragma GCC unroll 4
      for (int p = 0; p < Positions; ++p) {
        const std::byte* from = tile.data[p] + offset + v * kLanes * 4;
        words[p] = HeadFill::words(shape, v, from);
        sum[p] = broadcast(0.0F);
      }
#pragma GCC unroll 8
      for (int j = 0; j < kCodes; ++j) {
        const Floats row = load(q + j * kLanes);
#pragma GCC unroll 4
        for (int p = 0; p < Positions; ++p) sum[p] = multiply_add(row, codes_of<Bits>(words[p], j), sum[p]);
      }
      const Floats row_sum = load(q + kCodes * kLanes);
      const std::int64_t group = h * shape.groups + index.first[v];
#pragma GCC unroll 4
      for (int p = 0; p < Positions; ++p) {
        total[p] = multiply_add(sum[p], parameters.scales(p, group, index.of[v]), total[p]);
        total[p] = multiply_add(row_sum, parameters.minima(p, group, index.of[v]), total[p]);
      }
    }
    put_scores(total, score);
  }
}

template <int Bits, int Positions, class HeadFill>
[[gnu::noinline]] void compressed_values(const StoredHeads& heads, const Tile& tile, const float* weight,
                                         std::int64_t weight_stride, float* sums, const GroupIndex& index,
                                         float* scratch) {
  constexpr int kCodes = 32 / Bits;
  const WordShape& shape = index.shape;
  Parameters parameters;
  parameters.widen<Positions>(heads, shape, tile, scratch);
  for (std::int64_t h = 0; h < heads.num_heads; ++h, weight += weight_stride) {
    const std::int64_t offset = h * heads.head_stride;
    fetch<Positions>(tile.next, offset, heads.head_stride);
    for (std::int64_t v = 0; v < HeadFill::vectors(shape); ++v, sums += (kCodes + 1) * kLanes) {
      const std::int64_t group = h * shape.groups + index.first[v];
      Floats sum[kCodes + 1];
#pragma GCC unroll 16
      for (int j = 0; j <= kCodes; ++j) sum[j] = load(sums + j * kLanes);
#pragma GCC unroll 4
      for (int p = 0; p < Positions; ++p) {
        const std::byte* from = tile.data[p] + offset + v * kLanes * 4;
        const Words words = HeadFill::words(shape, v, from);
        const Floats factor = broadcast(weight[p]);
        const Floats scaled = factor * parameters.scales(p, group, index.of[v]);
        sum[kCodes] = multiply_add(factor, parameters.minima(p, group, index.of[v]), sum[kCodes]);
#pragma GCC unroll 8
        for (int j = 0; j < kCodes; ++j) sum[j] = multiply_add(scaled, codes_of<Bits>(words, j), sum[j]);
      }
#pragma GCC unroll 16
      for (int j = 0; j <= kCodes; ++j) store(sums + j * kLanes, sum[j]);
    }
  }
}

}  // namespace
}  // namespace flexgen
