// Weighted sums of values by dot products of bytes (part of kernels_avx512_vnni.cpp; see
// vnni_body.hpp): the bytes of four positions are brought side by side, so that a lane is four positions' codes
// of one element, and meets the four weights of its group.
#pragma once

#include "ops/host/stored/vnni_body.hpp"

namespace flexgen {
namespace {

/// weight[p] of the heads of sixteen groups, of one quad of positions; zeros where there is no position.
template <int Groups>
FLEXGEN_ALWAYS_INLINE void load_weights(const float* weight, std::int64_t stride, std::int64_t num_heads,
                                        __mmask8 positions, Floats* quad) {
  constexpr int kEach = 4 / Groups;  // heads to a quarter of a vector
  Floats rows[4];
#pragma GCC unroll 4
  for (int j = 0; j < kEach; ++j) {
    const auto of = [&](int quarter) {
      const std::int64_t h = quarter * kEach + j;
      return _mm_maskz_loadu_ps(positions, weight + (h < num_heads ? h : 0) * stride);
    };
    Floats row = _mm512_castps128_ps512(of(0));
    row = _mm512_insertf32x4(row, of(1), 1);
    row = _mm512_insertf32x4(row, of(2), 2);
    row = _mm512_insertf32x4(row, of(3), 3);
    for (int i = 0; i < Groups; ++i) rows[j * Groups + i] = row;
  }
  Floats columns[4];
  transpose_quarters(rows, columns);
#pragma GCC unroll 4
  for (int p = 0; p < 4; ++p) quad[p] = columns[p];
}

/// Of sixteen groups: the weights of quads of positions as bytes, hi and lo, and what one of them is worth.
template <int Quads>
struct ByteWeights {
  __m512i hi[Quads], lo[Quads];
  Floats unit;

  FLEXGEN_ALWAYS_INLINE void set(const Floats (&scaled)[4 * Quads]) {
    Floats largest = _mm512_abs_ps(scaled[0]);
#pragma GCC unroll 8
    for (int p = 1; p < 4 * Quads; ++p) largest = larger(_mm512_abs_ps(scaled[p]), largest);
    // Where all are zero, or as good as that, the product is no number, and its bytes are zeros.
    const Floats inverse = broadcast(kLargestWeight) / largest;
    unit = largest * broadcast(1.0F / kLargestWeight);
#pragma GCC unroll 2
    for (int quad = 0; quad < Quads; ++quad) {
      const auto number = [&](int p) { return _mm512_cvtps_epi32(scaled[4 * quad + p] * inverse); };
      const auto pair = [&](int p) {
        return _mm512_mask_blend_epi16(0xAAAAAAAA, number(p), _mm512_slli_epi32(number(p + 1), 16));
      };
      const __m512i a = pair(0), b = pair(2), half = _mm512_set1_epi16(128);
      // A number is hi * 256 + lo, lo signed: hi is rounded.
      const __m512i low = _mm512_set1_epi16(0x00FF);
      const auto join = [](__m512i first, __m512i second) {  // 16-bit numbers of up to eight bits to bytes, in order
        const __m512i one = _mm512_or_si512(first, _mm512_srli_epi32(first, 8));
        const __m512i two = _mm512_or_si512(second, _mm512_srli_epi32(second, 8));
        return _mm512_mask_blend_epi16(0xAAAAAAAA, one, _mm512_slli_epi32(two, 16));
      };
      lo[quad] = join(_mm512_and_si512(a, low), _mm512_and_si512(b, low));
      hi[quad] = join(_mm512_srli_epi16(_mm512_add_epi16(a, half), 8), _mm512_srli_epi16(_mm512_add_epi16(b, half), 8));
    }
  }
};

/// Sums of a vector's words: one per byte of a quarter and nibble. Two heads of 64 have half a vector each.
template <int Groups>
struct SumPlace {
  float* first;
  float* second;  // null where there is none
  FLEXGEN_ALWAYS_INLINE Floats get(int i) const {
    if constexpr (Groups == 2) return load(first + i * 16);
    const float* upper = second != nullptr ? second : first;
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(first + i * 8)), _mm256_loadu_ps(upper + i * 8),
                              1);
  }
  FLEXGEN_ALWAYS_INLINE void put(int i, const Floats& sum) const {
    if constexpr (Groups == 2) return store(first + i * 16, sum);
    _mm256_storeu_ps(first + i * 8, _mm512_castps512_ps256(sum));
    if (second != nullptr) _mm256_storeu_ps(second + i * 8, _mm512_extractf32x8_ps(sum, 1));
  }
};

/// Bytes 0 .. 7, or 8 .. 15, of every quarter of four positions.
template <bool Upper>
FLEXGEN_ALWAYS_INLINE void side_by_side(const __m512i (&codes)[4], __m512i (&to)[2]) {
  const auto bytes = [](__m512i a, __m512i b) {
    return Upper ? _mm512_unpackhi_epi8(a, b) : _mm512_unpacklo_epi8(a, b);
  };
  const __m512i a = bytes(codes[0], codes[1]), b = bytes(codes[2], codes[3]);
  to[0] = _mm512_unpacklo_epi16(a, b), to[1] = _mm512_unpackhi_epi16(a, b);
}

template <int Groups, int Quads, bool Upper>
FLEXGEN_ALWAYS_INLINE void add_half(const __m512i (&codes)[Quads][4], const __m512i (&hi)[Quads],
                                    const __m512i (&lo)[Quads], const Floats& unit, const SumPlace<Groups>& sums) {
  __m512i bytes[Quads][2];
#pragma GCC unroll 2
  for (int quad = 0; quad < Quads; ++quad) side_by_side<Upper>(codes[quad], bytes[quad]);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    // The upper nibbles are left where they are: sixteen times their codes.
    const __m512i nibble = _mm512_set1_epi8(static_cast<char>(i % 2 == 0 ? 0x0F : 0xF0));
    __m512i sum = _mm512_setzero_si512();
#pragma GCC unroll 2
    for (int quad = 0; quad < Quads; ++quad)
      sum = _mm512_dpbusd_epi32(sum, _mm512_and_si512(bytes[quad][i / 2], nibble), hi[quad]);
    sum = _mm512_slli_epi32(sum, 8);
#pragma GCC unroll 2
    for (int quad = 0; quad < Quads; ++quad)
      sum = _mm512_dpbusd_epi32(sum, _mm512_and_si512(bytes[quad][i / 2], nibble), lo[quad]);
    const Floats worth = i % 2 == 0 ? unit : unit * broadcast(0.0625F);
    const int place = (Upper ? 4 : 0) + i;
    sums.put(place, multiply_add(_mm512_cvtepi32_ps(sum), worth, sums.get(place)));
  }
}

/// sums[h] += weights . values of the chunk's heads; minima[group] += weights . minima.
template <int Groups, int Quads, bool Together>
FLEXGEN_ALWAYS_INLINE void add_chunk(const Rows<4 * Quads>& rows, const Chunk& chunk, const float* weight,
                                     std::int64_t weight_stride, std::uint32_t positions, float* sums, float* minima) {
  using Shape = Heads<Groups>;
  ByteWeights<Quads> weights;
  {
    Floats scaled[4 * Quads];
    Floats minimum = load(minima + chunk.group());
    const __mmask16 mask = group_mask<Groups>(chunk);
#pragma GCC unroll 2
    for (int quad = 0; quad < Quads; ++quad)
      load_weights<Groups>(weight + 4 * quad, weight_stride, chunk.num_heads,
                           static_cast<__mmask8>(positions >> (4 * quad) & 15U), scaled + 4 * quad);
#pragma GCC unroll 8
    for (int p = 0; p < 4 * Quads; ++p) {
      const Parameters parameters(rows.parameters[p] + chunk.group() * 4, mask);
      __builtin_prefetch(rows.next_parameters[p] + chunk.group() * 4, 0, 3);
      minimum = multiply_add(scaled[p], parameters.minimum, minimum);
      scaled[p] = scaled[p] * parameters.scale;
    }
    store(minima + chunk.group(), minimum);
    weights.set(scaled);
  }
  // The two groups of vector v: the first one's in the lower half.
  __m512i order = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
  for (std::int64_t v = 0; v < chunk.num_vectors; ++v, order = _mm512_add_epi32(order, _mm512_set1_epi32(2))) {
    const std::int64_t h = v * Shape::kHeadsPerVector;
    fetch_vector(rows, (chunk.head + h) * chunk.stride);
    __m512i codes[Quads][4], hi[Quads], lo[Quads];
#pragma GCC unroll 2
    for (int quad = 0; quad < Quads; ++quad) {
#pragma GCC unroll 4
      for (int p = 0; p < 4; ++p) codes[quad][p] = load_codes<Groups, Together>(rows.data[4 * quad + p], chunk, v);
      hi[quad] = _mm512_permutexvar_epi32(order, weights.hi[quad]);
      lo[quad] = _mm512_permutexvar_epi32(order, weights.lo[quad]);
    }
    const Floats unit = _mm512_permutexvar_ps(order, weights.unit);
    float* first = sums + h * Shape::kArranged;
    const SumPlace<Groups> place = {first, h + 1 < chunk.num_heads ? first + Shape::kArranged : nullptr};
    add_half<Groups, Quads, false>(codes, hi, lo, unit, place);
    add_half<Groups, Quads, true>(codes, hi, lo, unit, place);
  }
}

}  // namespace
}  // namespace flexgen
