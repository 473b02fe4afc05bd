// Encoding of groups (part of compressed_kernels_body.hpp): quantize_group.hpp in vectors of sixteen, bit for bit.
#pragma once

#include "ops/compressed_kernels.hpp"
#include "ops/quantize_group.hpp"
#include "ops/simd.hpp"

namespace flexgen {
namespace {

// Sixteen lanes whatever the instruction set: the compiler splits them where registers are narrower.
typedef float Wide __attribute__((vector_size(64)));
typedef std::int32_t WideInts __attribute__((vector_size(64)));
typedef std::uint8_t WideBytes __attribute__((vector_size(16)));
typedef std::uint64_t FourLongs __attribute__((vector_size(32)));
typedef std::uint32_t FourWords __attribute__((vector_size(16)));

#define FLEXGEN_WIDE(x) (Wide{} + (x))

FLEXGEN_ALWAYS_INLINE void sums_of(const Wide& error, const Wide& code, const Wide& code_squared, const Wide& y,
                                   const Wide& code_y, GroupFit* fit) {
#if defined(__AVX512F__)
  const __m128 four = lane_sums(error, code, code_squared, y);
  fit->error = four[0], fit->sum_code = four[1], fit->sum_code_squared = four[2], fit->sum_y = four[3];
  fit->sum_code_y = lane_sum(code_y);
#else
  const auto total = [](const Wide& v) {
    LaneSum sum;
    __builtin_memcpy(sum.lane, &v, sizeof v);
    return sum.total();
  };
  *fit = {0.0F, 0.0F, total(error), total(code), total(code_squared), total(y), total(code_y)};
#endif
}

/// The smallest (or, negated, the largest) lane.
FLEXGEN_ALWAYS_INLINE float least_lane(const Wide& v) {
#if defined(__AVX512F__)
  return _mm512_reduce_min_ps(v);
#else
  float least = v[0];
  for (int i = 1; i < 16; ++i) least = v[i] < least ? v[i] : least;
  return least;
#endif
}

template <int Vectors>
FLEXGEN_ALWAYS_INLINE GroupFit fit_group(const Wide (&value)[Vectors], float scale, float minimum, float largest_code,
                                         Wide (&code)[Vectors]) {
  const Wide most = FLEXGEN_WIDE(largest_code), none = FLEXGEN_WIDE(0.0F), magic = FLEXGEN_WIDE(12582912.0F);
  const Wide step = FLEXGEN_WIDE(scale), start = FLEXGEN_WIDE(minimum);
  Wide error{}, sum_code{}, sum_code_squared{}, sum_y{}, sum_code_y{};
#pragma GCC unroll 8
  for (int i = 0; i < Vectors; ++i) {
    const Wide y = value[i] - start;
    Wide c = y / step;
    c = c < none ? none : c;
    c = c > most ? most : c;
    c = (c + magic) - magic;
    code[i] = c;
    const Wide off = value[i] - (c * step + start);
    error += off * off;
    sum_code += c;
    sum_code_squared += c * c;
    sum_y += y;
    sum_code_y += c * y;
  }
  GroupFit fit;
  sums_of(error, sum_code, sum_code_squared, sum_y, sum_code_y, &fit);
  fit.scale = scale, fit.minimum = minimum;
  return fit;
}

/// A group of 16 * Vectors elements; codes as bytes.
template <int Vectors>
bool encode_whole_group(const float* from, int bits, int refinements, std::uint8_t* to, GroupParameters* parameters) {
  const float largest_code = static_cast<float>((1 << bits) - 1);
  Wide value[Vectors], code[Vectors], other[Vectors];
  const Wide upper = FLEXGEN_WIDE(largest_half), lower = FLEXGEN_WIDE(-largest_half);
  Wide smallest = upper, largest = lower;
  WideInts finite = ~WideInts{};
#pragma GCC unroll 8
  for (int i = 0; i < Vectors; ++i) {
    __builtin_memcpy(&value[i], from + i * 16, sizeof(Wide));
    finite &= value[i] - value[i] == Wide{};
    value[i] = value[i] < lower ? lower : value[i];
    value[i] = value[i] > upper ? upper : value[i];
    smallest = value[i] < smallest ? value[i] : smallest;
    largest = value[i] > largest ? value[i] : largest;
    code[i] = Wide{};
  }
  *parameters = meaningless_group;
  bool all_finite = true;
#if defined(__AVX512F__)
  all_finite = _mm512_movepi32_mask(reinterpret_cast<__m512i>(finite)) == 0xFFFF;
#else
  for (int i = 0; i < 16; ++i) all_finite &= finite[i] != 0;
#endif
  if (all_finite) {
    const float least = least_lane(smallest);
    parameters->minimum = half_bits_from_float(least);
    parameters->scale = half_bits_from_float((-least_lane(-largest) - least) / largest_code);
    float scale = float_from_half_bits(parameters->scale);
    float minimum = float_from_half_bits(parameters->minimum);
    if (scale != 0.0F) {
      GroupFit best = fit_group(value, scale, minimum, largest_code, code);
      for (int i = 0; i < refinements && next_line(best, 16.0F * Vectors, &scale, &minimum); ++i) {
        const GroupFit fit = fit_group(value, scale, minimum, largest_code, other);
        if (!(fit.error < best.error)) break;
        best = fit;
        *parameters = {half_bits_from_float(scale), half_bits_from_float(minimum)};
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) code[v] = other[v];
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < Vectors; ++i) {
    const WideBytes bytes = __builtin_convertvector(__builtin_convertvector(code[i], WideInts), WideBytes);
    __builtin_memcpy(to + i * 16, &bytes, sizeof bytes);
  }
  return all_finite;
}

/// 32 codes of 4 bits from bytes to four words.
FLEXGEN_ALWAYS_INLINE void pack_nibbles(const std::uint8_t* code, std::byte* to) {
  FourLongs bytes;
  __builtin_memcpy(&bytes, code, sizeof bytes);
  const auto gather = [](FourLongs& x) {  // bytes 0, 2, 4, 6 of eight to 16 bits
    x &= 0x000F000F000F000FULL;
    x |= x >> 12;
    x = (x & 0xFFULL) | (x >> 24 & 0xFF00ULL);
  };
  FourLongs odd = bytes >> 8;
  gather(bytes);
  gather(odd);
  const FourWords words = __builtin_convertvector(bytes | odd << 16, FourWords);
  __builtin_memcpy(to, &words, sizeof words);
}

bool encode(const float* from, std::int64_t count, const QuantFormat& format, int refinements, std::byte* codes,
            std::byte* parameters) {
  bool finite = true;
  const int bits = format.bits;
  for (std::int64_t first = 0; first < count; first += format.group, parameters += 4) {
    const std::int64_t size = first + format.group <= count ? format.group : count - first;
    alignas(64) std::uint8_t code[max_group];
    GroupParameters stored;
    switch (size) {
      case 32: finite &= encode_whole_group<2>(from + first, bits, refinements, code, &stored); break;
      case 64: finite &= encode_whole_group<4>(from + first, bits, refinements, code, &stored); break;
      case 128: finite &= encode_whole_group<8>(from + first, bits, refinements, code, &stored); break;
      default: {
        float value[max_group];
        __builtin_memcpy(value, from + first, static_cast<std::size_t>(size) * 4);
        finite &= encode_group(value, static_cast<int>(size), bits, refinements, code, &stored);
      }
    }
    const std::uint32_t word = static_cast<std::uint32_t>(stored.minimum) << 16 | stored.scale;
    __builtin_memcpy(parameters, &word, 4);
    std::byte* to = codes + first / 8 * bits;
    std::int64_t packed = 0;
    if (bits == 8) packed = size / 8 * 8, __builtin_memcpy(to, code, static_cast<std::size_t>(packed));
    else for (; packed + 32 <= size; packed += 32) pack_nibbles(code + packed, to + packed / 2);
    pack_codes(code + packed, size - packed, bits, to + packed / 8 * bits);
  }
  return finite;
}

}  // namespace
}  // namespace flexgen
