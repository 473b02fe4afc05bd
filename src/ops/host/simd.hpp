// Vectors of float32 in the widest form that the including translation unit is compiled for.
//
// Only for host_kernels_*.cpp. Everything has internal linkage: the same names mean other code in each of them.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "ops/element_access.hpp"

namespace flexgen {
namespace {

// Elements in memory; load() widens them.
struct Half {
  std::uint16_t bits;
};
struct BFloat16 {
  std::uint16_t bits;
};

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)

constexpr int kLanes = 16;
constexpr int kTileRows = 4;  // a tile of sums that fits the registers: 4 x 6 of 32
constexpr int kTileCols = 6;
constexpr int kStreamRows = 8;  // the tiles where memory binds: 8 x 3, and 4 x 4 for up to half the rows
constexpr int kStreamCols = 3;
using Floats = __m512;

FLEXGEN_ALWAYS_INLINE Floats load(const float* p) { return _mm512_loadu_ps(p); }
FLEXGEN_ALWAYS_INLINE Floats load(const Half* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
FLEXGEN_ALWAYS_INLINE Floats load(const BFloat16* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
FLEXGEN_ALWAYS_INLINE void store(float* p, Floats v) { _mm512_storeu_ps(p, v); }
FLEXGEN_ALWAYS_INLINE void store(Half* p, Floats v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
FLEXGEN_ALWAYS_INLINE Floats broadcast(float v) { return _mm512_set1_ps(v); }
FLEXGEN_ALWAYS_INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
FLEXGEN_ALWAYS_INLINE Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }
FLEXGEN_ALWAYS_INLINE __m256 fold_half(Floats v) {
  return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
}
FLEXGEN_ALWAYS_INLINE __m128 fold(Floats v) {
  const __m256 half = fold_half(v);
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}
/// lane_sum of four vectors at a time, in the same order.
FLEXGEN_ALWAYS_INLINE __m128 lane_sums(Floats a, Floats b, Floats c, Floats d) {
  const Floats ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
  const Floats cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xEE));
  const Floats four = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xDD));
  const Floats two = _mm512_add_ps(four, _mm512_permute_ps(four, 0xB1));
  const Floats one = _mm512_add_ps(two, _mm512_permute_ps(two, 0x4E));
  return _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, one));
}

#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)

constexpr int kLanes = 8;
constexpr int kTileRows = 3;  // 3 x 4 of 16 registers
constexpr int kTileCols = 4;
constexpr int kStreamRows = 4;
constexpr int kStreamCols = 3;
using Floats = __m256;

FLEXGEN_ALWAYS_INLINE Floats load(const float* p) { return _mm256_loadu_ps(p); }
FLEXGEN_ALWAYS_INLINE Floats load(const Half* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
FLEXGEN_ALWAYS_INLINE Floats load(const BFloat16* p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
FLEXGEN_ALWAYS_INLINE void store(float* p, Floats v) { _mm256_storeu_ps(p, v); }
FLEXGEN_ALWAYS_INLINE void store(Half* p, Floats v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
FLEXGEN_ALWAYS_INLINE Floats broadcast(float v) { return _mm256_set1_ps(v); }
FLEXGEN_ALWAYS_INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
FLEXGEN_ALWAYS_INLINE Floats larger(Floats a, Floats b) { return _mm256_max_ps(a, b); }
FLEXGEN_ALWAYS_INLINE __m128 fold(Floats v) {
  return _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
}
FLEXGEN_ALWAYS_INLINE __m128 lane_sums(Floats a, Floats b, Floats c, Floats d) {
  return _mm_hadd_ps(_mm_hadd_ps(fold(a), fold(b)), _mm_hadd_ps(fold(c), fold(d)));
}

#else

constexpr int kLanes = 4;
constexpr int kTileRows = 2;
constexpr int kTileCols = 4;
constexpr int kStreamRows = 4;
constexpr int kStreamCols = 2;
typedef float Floats __attribute__((vector_size(16)));

FLEXGEN_ALWAYS_INLINE Floats load(const float* p) {
  Floats v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
FLEXGEN_ALWAYS_INLINE Floats load(const Half* p) {
  return Floats{float_from_half_bits(p[0].bits), float_from_half_bits(p[1].bits), float_from_half_bits(p[2].bits),
                float_from_half_bits(p[3].bits)};
}
FLEXGEN_ALWAYS_INLINE Floats load(const BFloat16* p) {
  return Floats{float_from_bfloat16_bits(p[0].bits), float_from_bfloat16_bits(p[1].bits),
                float_from_bfloat16_bits(p[2].bits), float_from_bfloat16_bits(p[3].bits)};
}
FLEXGEN_ALWAYS_INLINE void store(float* p, Floats v) { __builtin_memcpy(p, &v, sizeof v); }
FLEXGEN_ALWAYS_INLINE void store(Half* p, Floats v) {
  for (int i = 0; i < kLanes; ++i) p[i].bits = half_bits_from_float(v[i]);
}
FLEXGEN_ALWAYS_INLINE Floats broadcast(float v) { return Floats{v, v, v, v}; }
FLEXGEN_ALWAYS_INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return a * b + c; }
FLEXGEN_ALWAYS_INLINE Floats larger(Floats a, Floats b) { return a > b ? a : b; }
FLEXGEN_ALWAYS_INLINE Floats fold(Floats v) { return v; }
FLEXGEN_ALWAYS_INLINE Floats lane_sums(Floats a, Floats b, Floats c, Floats d) {
  return Floats{(a[0] + a[1]) + (a[2] + a[3]), (b[0] + b[1]) + (b[2] + b[3]), (c[0] + c[1]) + (c[2] + c[3]),
                (d[0] + d[1]) + (d[2] + d[3])};
}

#endif

constexpr int kStreamFewRows = kStreamRows / 2;
constexpr int kStreamFewCols = 6;

typedef std::int32_t Ints __attribute__((vector_size(4 * kLanes)));

FLEXGEN_ALWAYS_INLINE void store(BFloat16* p, Floats v) {  // the compiler vectorises these integer steps
  float lanes[kLanes];
  store(lanes, v);
  for (int i = 0; i < kLanes; ++i) p[i].bits = bfloat16_bits_from_float(lanes[i]);
}

/// The first `count` < kLanes elements, zeros after them.
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
FLEXGEN_ALWAYS_INLINE Floats load_part(const float* p, std::int64_t count) {
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1U << count) - 1U), p);
}
#endif
template <class Element>
FLEXGEN_ALWAYS_INLINE Floats load_part(const Element* p, std::int64_t count) {
  Element lanes[kLanes] = {};
  __builtin_memcpy(lanes, p, static_cast<std::size_t>(count) * sizeof(Element));
  return load(lanes);
}
template <class Element>
FLEXGEN_ALWAYS_INLINE void store_part(Element* p, Floats v, std::int64_t count) {
  Element lanes[kLanes];
  store(lanes, v);
  __builtin_memcpy(p, lanes, static_cast<std::size_t>(count) * sizeof(Element));
}

/// What one instruction takes of an operand of `dots`: kLanes elements as Floats, or, Paired, twice as many bfloat16.
template <bool Paired>
struct Operand {
  static constexpr int kElements = kLanes;
  template <class Element>
  FLEXGEN_ALWAYS_INLINE static Floats whole(const Element* p) {
    return load(p);
  }
  template <class Element>
  FLEXGEN_ALWAYS_INLINE static Floats part(const Element* p, std::int64_t count) {
    return load_part(p, count);
  }
};

#if defined(__AVX512BF16__)
constexpr bool kMultipliesBFloat16 = true;
template <>
struct Operand<true> {
  static constexpr int kElements = 2 * kLanes;
  FLEXGEN_ALWAYS_INLINE static __m512bh whole(const BFloat16* p) {
    return reinterpret_cast<__m512bh>(_mm512_loadu_si512(p));
  }
  FLEXGEN_ALWAYS_INLINE static __m512bh part(const BFloat16* p, std::int64_t count) {
    return reinterpret_cast<__m512bh>(_mm512_maskz_loadu_epi16(static_cast<__mmask32>((1ULL << count) - 1ULL), p));
  }
};
FLEXGEN_ALWAYS_INLINE Floats multiply_add(__m512bh a, __m512bh b, Floats c) { return _mm512_dpbf16_ps(c, a, b); }
#else
constexpr bool kMultipliesBFloat16 = false;
#endif

/// Sum of the lanes, always in the same order.
FLEXGEN_ALWAYS_INLINE float lane_sum(Floats v) {
  const auto four = fold(v);
  return (four[0] + four[1]) + (four[2] + four[3]);
}
FLEXGEN_ALWAYS_INLINE float lane_max(Floats v) {
  float lanes[kLanes];
  store(lanes, v);
  float result = lanes[0];
  for (int i = 1; i < kLanes; ++i) result = lanes[i] > result ? lanes[i] : result;
  return result;
}

/// e^x for x <= 0, within 2 units of the last place; 0 below -87.3. Source: Cody and Waite's range reduction, and a
/// polynomial of degree 6 on [-ln 2 / 2, ln 2 / 2].
FLEXGEN_ALWAYS_INLINE Floats exponential(Floats x) {
  const Floats lowest = broadcast(-87.3F);
  const Floats magic = broadcast(12582912.0F);  // 1.5 * 2^23: adding it rounds to an integer
  const Floats clamped = larger(lowest, x);     // in this order a NaN gets through
  const Floats n = multiply_add(clamped, broadcast(1.44269504F), magic) - magic;
  Floats r = multiply_add(n, broadcast(-0.693359375F), clamped);
  r = multiply_add(n, broadcast(2.12194440e-4F), r);
  Floats p = broadcast(1.0F / 720.0F);
  p = multiply_add(p, r, broadcast(1.0F / 120.0F));
  p = multiply_add(p, r, broadcast(1.0F / 24.0F));
  p = multiply_add(p, r, broadcast(1.0F / 6.0F));
  p = multiply_add(p, r, broadcast(0.5F));
  p = multiply_add(p, r, broadcast(1.0F));
  p = multiply_add(p, r, broadcast(1.0F));
  const Ints exponent = (__builtin_convertvector(n, Ints) + 127) << 23;
  const Floats result = p * reinterpret_cast<Floats>(exponent);
  return x < lowest ? broadcast(0.0F) : result;
}

}  // namespace
}  // namespace flexgen
