// Decoding of runs of codes to plain elements (part of kernels_body.hpp).
#pragma once

#include "ops/host/simd.hpp"
#include "ops/host/stored/stored_kernels.hpp"

namespace flexgen {
namespace {

typedef std::uint8_t LaneBytes __attribute__((vector_size(kLanes)));

/// kLanes codes of eight bits, widened.
FLEXGEN_ALWAYS_INLINE Floats byte_codes(const std::byte* p) {
#if defined(__AVX512F__)
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#elif defined(__AVX2__)
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
  LaneBytes bytes;
  __builtin_memcpy(&bytes, p, sizeof bytes);
  return __builtin_convertvector(__builtin_convertvector(bytes, Ints), Floats);
#endif
}

/// Sixteen values, the product exact, so that this rounds once.
struct GroupValues {
  Floats scale, minimum;
#if defined(__AVX512F__)
  Floats table;  // of the sixteen codes of 4 bits
#endif

  FLEXGEN_ALWAYS_INLINE explicit GroupValues(const std::byte* parameters) {
    Half stored[2];
    __builtin_memcpy(stored, parameters, 4);
    scale = broadcast(float_from_half_bits(stored[0].bits));
    minimum = broadcast(float_from_half_bits(stored[1].bits));
#if defined(__AVX512F__)
    table = multiply_add(Floats{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, scale, minimum);
#endif
  }

  /// Of elements i .. i + kLanes of the group.
  template <int Bits>
  FLEXGEN_ALWAYS_INLINE Floats at(const std::byte* codes, std::int64_t i) const {
    if constexpr (Bits == 8) {
      return multiply_add(byte_codes(codes + i), scale, minimum);
    } else {
#if defined(__AVX512F__)
      const __m512i shifts = _mm512_set_epi32(28, 12, 24, 8, 20, 4, 16, 0, 28, 12, 24, 8, 20, 4, 16, 0);
      const __m512i twice = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
      const __m512i words = _mm512_castsi128_si512(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes + i / 2)));
      return _mm512_permutexvar_ps(_mm512_srlv_epi32(_mm512_permutexvar_epi32(twice, words), shifts), table);
#else
      std::uint32_t word;
      __builtin_memcpy(&word, codes + i / 8 * 4, 4);
      Ints lanes;
      for (int l = 0; l < kLanes; ++l) {
        const int place = kLanes == 4 ? static_cast<int>(i % 8) + l : l;
        lanes[l] = static_cast<std::int32_t>(word >> (place % 2 * 16 + place / 2 * 4) & 15U);
      }
      return multiply_add(__builtin_convertvector(lanes, Floats), scale, minimum);
#endif
    }
  }
};

template <int Bits, class Element>
void decode_groups(const std::byte* codes, const std::byte* parameters, std::int64_t group, std::int64_t count,
                   Element* to) {
  for (std::int64_t first = 0; first < count; first += group, parameters += 4) {
    const GroupValues values(parameters);
    const std::int64_t size = first + group <= count ? group : count - first;
    const std::byte* from = codes + first / 8 * Bits;
    std::int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes) store(to + first + i, values.at<Bits>(from, i));
    if (i < size) {
      std::byte rest[kLanes + 8] = {};
      __builtin_memcpy(rest, from + i / 8 * Bits, static_cast<std::size_t>((size - i / 8 * 8 + 7) / 8 * Bits));
      store_part(to + first + i, values.at<Bits>(rest, i % 8), size - i);
    }
  }
}

template <class Element>
void decode_to(const std::byte* codes, const std::byte* parameters, const QuantFormat& format, std::int64_t count,
               std::byte* to) {
  auto* out = reinterpret_cast<Element*>(to);
  if (format.bits == 8) decode_groups<8>(codes, parameters, format.group, count, out);
  else decode_groups<4>(codes, parameters, format.group, count, out);
}

void decode(const std::byte* codes, const std::byte* parameters, const QuantFormat& format, std::int64_t count,
            DType dtype, std::byte* to) {
  switch (dtype) {
    case DType::float32: decode_to<float>(codes, parameters, format, count, to); return;
    case DType::float16: decode_to<Half>(codes, parameters, format, count, to); return;
    case DType::bfloat16: decode_to<BFloat16>(codes, parameters, format, count, to); return;
    case DType::float64: return;  // never computed in
  }
}

}  // namespace
}  // namespace flexgen
