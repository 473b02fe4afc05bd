// Compressed heads of up to half a vector, two at a time: the lower half of a vector is one's, the upper half the next
// one's (part of kernels_body.hpp).
#pragma once

#include "ops/host/stored/codes_body.hpp"

#if defined(__AVX512F__)

namespace flexgen {
namespace {

/// A last head without a next one is taken twice: what comes out for the second goes nowhere.
struct Pair {
  std::int64_t first, second;  // heads
  bool both;
};
FLEXGEN_ALWAYS_INLINE Pair pair_of(const StoredHeads& heads, std::int64_t h) {
  const bool both = h + 1 < heads.num_heads;
  return {h, both ? h + 1 : h, both};
}

FLEXGEN_ALWAYS_INLINE Floats load_pair(const float* first, const float* second) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(first)), _mm256_loadu_ps(second), 1);
}
/// Together: the words of both follow one another.
template <bool Together>
FLEXGEN_ALWAYS_INLINE Words load_word_pair(const std::byte* first, const std::byte* second, __mmask8 mask) {
  if (Together) return load_words(first);
  const __m512i low = _mm512_castsi256_si512(_mm256_maskz_loadu_epi32(mask, first));
  return reinterpret_cast<Words>(_mm512_inserti32x8(low, _mm256_maskz_loadu_epi32(mask, second), 1));
}
FLEXGEN_ALWAYS_INLINE Floats broadcast_pair(float first, float second) {
  return _mm512_mask_blend_ps(0xFF00, broadcast(first), broadcast(second));
}
/// The sums of the halves: of the lower ones in lanes 0 .. 3, of the upper ones in lanes 8 .. 11.
FLEXGEN_ALWAYS_INLINE Floats half_sums(Floats a, Floats b, Floats c, Floats d) {
  const Floats ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const Floats cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const Floats four = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xEE));
  return _mm512_add_ps(four, _mm512_shuffle_f32x4(four, four, 0xB1));
}

template <int Bits, int Positions, bool Together>
FLEXGEN_ALWAYS_INLINE void score_pair(const StoredHeads& heads, const Tile& tile, const Pair& pair, const float* q,
                                      float* score, std::int64_t score_stride, const GroupIndex& index,
                                      const Parameters& parameters) {
  constexpr int kCodes = 32 / Bits;
  const WordShape& shape = index.shape;
  const float* first = q + pair.first * shape.floats();
  const float* second = q + pair.second * shape.floats();
  const std::int64_t offset = pair.first * heads.head_stride, second_offset = pair.second * heads.head_stride;
  const auto mask = static_cast<__mmask8>((1U << shape.words) - 1U);
  fetch<Positions>(tile.next, offset, 2 * heads.head_stride);
  Words words[Positions];
  Floats sum[Positions];
#pragma GCC unroll 4
  for (int p = 0; p < Positions; ++p) {
    words[p] = load_word_pair<Together>(tile.data[p] + offset, tile.data[p] + second_offset, mask);
    sum[p] = broadcast(0.0F);
  }
#pragma GCC unroll 8
  for (int j = 0; j < kCodes; ++j) {
    const Floats row = load_pair(first + j * 8, second + j * 8);
#pragma GCC unroll 4
    for (int p = 0; p < Positions; ++p) sum[p] = multiply_add(row, codes_of<Bits>(words[p], j), sum[p]);
  }
  const Floats row_sum = load_pair(first + kCodes * 8, second + kCodes * 8);
#pragma GCC unroll 4
  for (int p = 0; p < Positions; ++p) {
    sum[p] = sum[p] * parameters.scales(p, pair.first * shape.groups, index.of[0]);
    sum[p] = multiply_add(row_sum, parameters.minima(p, pair.first * shape.groups, index.of[0]), sum[p]);
  }
  const auto at = [&](int p) { return p < Positions ? sum[p] : broadcast(0.0F); };
  const Floats eight = half_sums(at(0), at(1), at(2), at(3));
  const __m128 lower = _mm512_castps512_ps128(eight), upper = _mm512_extractf32x4_ps(eight, 2);
  if (pair.both) __builtin_memcpy(score + pair.second * score_stride, &upper, Positions * sizeof(float));
  __builtin_memcpy(score + pair.first * score_stride, &lower, Positions * sizeof(float));
}

template <int Bits, int Positions, bool Together>
FLEXGEN_ALWAYS_INLINE void add_pair(const StoredHeads& heads, const Tile& tile, const Pair& pair, const float* weight,
                                    std::int64_t weight_stride, float* sums, const GroupIndex& index,
                                    const Parameters& parameters) {
  constexpr int kCodes = 32 / Bits;
  const WordShape& shape = index.shape;
  float* first = sums + pair.first * shape.floats();
  float* second = sums + pair.second * shape.floats();
  const std::int64_t offset = pair.first * heads.head_stride, second_offset = pair.second * heads.head_stride;
  const auto mask = static_cast<__mmask8>((1U << shape.words) - 1U);
  fetch<Positions>(tile.next, offset, 2 * heads.head_stride);
  Floats sum[kCodes + 1];
#pragma GCC unroll 16
  for (int j = 0; j <= kCodes; ++j) sum[j] = load_pair(first + j * 8, second + j * 8);
#pragma GCC unroll 4
  for (int p = 0; p < Positions; ++p) {
    const Words words = load_word_pair<Together>(tile.data[p] + offset, tile.data[p] + second_offset, mask);
    const Floats factor =
        broadcast_pair(weight[pair.first * weight_stride + p], weight[pair.second * weight_stride + p]);
    const Floats scaled = factor * parameters.scales(p, pair.first * shape.groups, index.of[0]);
    sum[kCodes] = multiply_add(factor, parameters.minima(p, pair.first * shape.groups, index.of[0]), sum[kCodes]);
#pragma GCC unroll 8
    for (int j = 0; j < kCodes; ++j) sum[j] = multiply_add(scaled, codes_of<Bits>(words, j), sum[j]);
  }
#pragma GCC unroll 16
  for (int j = 0; j <= kCodes; ++j) {
    if (pair.both) _mm256_storeu_ps(second + j * 8, _mm512_extractf32x8_ps(sum[j], 1));
    _mm256_storeu_ps(first + j * 8, _mm512_castps512_ps256(sum[j]));
  }
}

/// Calls body.template operator()<Together>(pair) for all heads.
template <class Body>
FLEXGEN_ALWAYS_INLINE void for_pairs(const StoredHeads& heads, const WordShape& shape, const Body& body) {
  const bool together = shape.words == 8 && heads.head_stride == 32;
  std::int64_t h = 0;
  for (; together && h + 2 <= heads.num_heads; h += 2) body.template operator()<true>(Pair{h, h + 1, true});
  for (; h < heads.num_heads; h += 2) body.template operator()<false>(pair_of(heads, h));
}

template <int Bits, int Positions>
[[gnu::noinline]] void paired_scores(const StoredHeads& heads, const Tile& tile, const float* q, float* score,
                                     std::int64_t score_stride, const GroupIndex& index, float* scratch) {
  Parameters parameters;
  parameters.widen<Positions>(heads, index.shape, tile, scratch);
  for_pairs(heads, index.shape, [&]<bool Together>(const Pair& pair) {
    score_pair<Bits, Positions, Together>(heads, tile, pair, q, score, score_stride, index, parameters);
  });
}

template <int Bits, int Positions>
[[gnu::noinline]] void paired_values(const StoredHeads& heads, const Tile& tile, const float* weight,
                                     std::int64_t weight_stride, float* sums, const GroupIndex& index, float* scratch) {
  Parameters parameters;
  parameters.widen<Positions>(heads, index.shape, tile, scratch);
  for_pairs(heads, index.shape, [&]<bool Together>(const Pair& pair) {
    add_pair<Bits, Positions, Together>(heads, tile, pair, weight, weight_stride, sums, index, parameters);
  });
}

}  // namespace
}  // namespace flexgen

#endif
