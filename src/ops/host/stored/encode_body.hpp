// Encoding of groups (part of kernels_body.hpp): quantize_group.hpp in vectors of sixteen, bit for bit.
#pragma once

#include "ops/host/simd.hpp"
#include "ops/host/stored/stored_kernels.hpp"
#include "ops/quantize_group.hpp"

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

/// y becomes its codes. (By reference: a vector that is returned would depend on the instruction set.)
FLEXGEN_ALWAYS_INLINE void to_codes(Wide& y, const Wide& step, const Wide& most) {
  const Wide none = FLEXGEN_WIDE(0.0F), magic = FLEXGEN_WIDE(12582912.0F);
  y /= step;
  y = y < none ? none : y;
  y = y > most ? most : y;
  y = (y + magic) - magic;
}

#if defined(__AVX512F__)
/// The same by a product with 1 / step, which is quicker; `doubtful` collects the lanes that lie so near the middle of
/// two codes that the quotient might round the other way: three roundings of at most 2^-24 each, of codes up to 255.
FLEXGEN_ALWAYS_INLINE void to_likely_codes(Wide& y, const Wide& inverse, const Wide& most, __mmask16* doubtful) {
  const Wide none = FLEXGEN_WIDE(0.0F), magic = FLEXGEN_WIDE(12582912.0F);
  y *= inverse;
  y = y < none ? none : y;
  y = y > most ? most : y;
  const Wide quotient = y;
  y = (y + magic) - magic;
  *doubtful |= _mm512_cmp_ps_mask(_mm512_abs_ps(quotient - y), _mm512_set1_ps(0.4999F), _CMP_GT_OQ);
}
#endif

/// Sums over a group of what `codes_of` makes of value - minimum.
template <int Vectors, class CodesOf>
FLEXGEN_ALWAYS_INLINE GroupFit sum_group(const Wide (&value)[Vectors], float scale, float minimum,
                                         const CodesOf& codes_of) {
  const Wide step = FLEXGEN_WIDE(scale), start = FLEXGEN_WIDE(minimum);
  Wide error{}, sum_code{}, sum_code_squared{}, sum_y{}, sum_code_y{};
#pragma GCC unroll 8
  for (int i = 0; i < Vectors; ++i) {
    const Wide y = value[i] - start;
    Wide c = y;
    codes_of(c);
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

template <int Vectors>
FLEXGEN_ALWAYS_INLINE GroupFit fit_group(const Wide (&value)[Vectors], float scale, float minimum, float largest_code) {
  const Wide most = FLEXGEN_WIDE(largest_code), step = FLEXGEN_WIDE(scale);
#if defined(__AVX512F__)
  const Wide inverse = FLEXGEN_WIDE(1.0F / scale);
  __mmask16 doubtful = 0;
  const GroupFit likely =
      sum_group(value, scale, minimum, [&](Wide& c) { to_likely_codes(c, inverse, most, &doubtful); });
  if (__builtin_expect(doubtful == 0, 1)) return likely;
#endif
  return sum_group(value, scale, minimum, [&](Wide& c) { to_codes(c, step, most); });
}

/// A group of 16 * Vectors elements on its way.
template <int Vectors>
struct GroupState {
  Wide value[Vectors];
  GroupFit best;
  bool finite, improving;

  FLEXGEN_ALWAYS_INLINE void start(const float* from, float largest_code, bool refine) {
    const Wide upper = FLEXGEN_WIDE(largest_half), lower = FLEXGEN_WIDE(-largest_half);
    Wide smallest = upper, largest = lower;
    WideInts all_finite = ~WideInts{};
#pragma GCC unroll 8
    for (int i = 0; i < Vectors; ++i) {
      Wide v;
      __builtin_memcpy(&v, from + i * 16, sizeof v);
      all_finite &= v - v == Wide{};
      v = v < lower ? lower : v;
      v = v > upper ? upper : v;
      smallest = v < smallest ? v : smallest;
      largest = v > largest ? v : largest;
      value[i] = v;
    }
#if defined(__AVX512F__)
    finite = _mm512_movepi32_mask(reinterpret_cast<__m512i>(all_finite)) == 0xFFFF;
#else
    finite = true;
    for (int i = 0; i < 16; ++i) finite &= all_finite[i] != 0;
#endif
    const float least = least_lane(smallest);
    best.scale = round_to_half((-least_lane(-largest) - least) / largest_code);
    best.minimum = round_to_half(least);
    improving = refine & finite & (best.scale != 0.0F);
    if (refine) best = fit_group(value, best.scale, best.minimum, largest_code);
  }
  FLEXGEN_ALWAYS_INLINE void refine(float largest_code) {
    float scale, minimum;
    const bool possible = next_line(best, 16.0F * Vectors, &scale, &minimum);
    const GroupFit fit = fit_group(value, scale, minimum, largest_code);
    improving = improving & possible & (fit.error < best.error);
    best = improving ? fit : best;
  }
  /// Codes as bytes.
  FLEXGEN_ALWAYS_INLINE void finish(float largest_code, std::uint8_t* code, GroupParameters* parameters) const {
    *parameters = meaningless_group;
    if (finite) *parameters = {half_bits_from_float(best.scale), half_bits_from_float(best.minimum)};
    const bool any = finite & (best.scale != 0.0F);
    const Wide most = FLEXGEN_WIDE(largest_code), step = FLEXGEN_WIDE(any ? best.scale : 1.0F);
#pragma GCC unroll 8
    for (int i = 0; i < Vectors; ++i) {
      Wide c = value[i] - FLEXGEN_WIDE(best.minimum);
      to_codes(c, step, most);
      if (!any) c = Wide{};
      const WideBytes bytes = __builtin_convertvector(__builtin_convertvector(c, WideInts), WideBytes);
      __builtin_memcpy(code + i * 16, &bytes, sizeof bytes);
    }
  }
};

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

FLEXGEN_ALWAYS_INLINE void put_group(const std::uint8_t* code, std::int64_t size, int bits,
                                     const GroupParameters& stored, std::byte* codes, std::byte* parameters) {
  const std::uint32_t word = static_cast<std::uint32_t>(stored.minimum) << 16 | stored.scale;
  __builtin_memcpy(parameters, &word, 4);
  std::int64_t packed = 0;
  if (bits == 8) packed = size / 8 * 8, __builtin_memcpy(codes, code, static_cast<std::size_t>(packed));
  else
    for (; packed + 32 <= size; packed += 32) pack_nibbles(code + packed, codes + packed / 2);
  pack_codes(code + packed, size - packed, bits, codes + packed / 8 * bits);
}

/// `Groups` whole groups, side by side: what a group waits for, the others fill.
template <int Vectors, int Groups>
bool encode_groups(const float* from, int bits, int refinements, std::byte* codes, std::byte* parameters) {
  constexpr int kSize = 16 * Vectors;
  const float largest_code = static_cast<float>((1 << bits) - 1);
  GroupState<Vectors> state[Groups];
  for (int g = 0; g < Groups; ++g) state[g].start(from + g * kSize, largest_code, refinements > 0);
  bool improving = true;
  for (int i = 0; i < refinements && improving; ++i) {
    improving = false;
    for (int g = 0; g < Groups; ++g) {
      state[g].refine(largest_code);
      improving |= state[g].improving;
    }
  }
  bool finite = true;
  for (int g = 0; g < Groups; ++g) {
    alignas(64) std::uint8_t code[kSize];
    GroupParameters stored;
    state[g].finish(largest_code, code, &stored);
    finite &= state[g].finite;
    put_group(code, kSize, bits, stored, codes + g * (kSize / 8 * bits), parameters + g * 4);
  }
  return finite;
}

/// All whole groups of a run; how many elements that were.
template <int Vectors>
std::int64_t encode_run(const float* from, std::int64_t count, int bits, int refinements, std::byte* codes,
                        std::byte* parameters, bool* finite) {
  constexpr int kSize = 16 * Vectors;
  constexpr int kGroups = 4;
  std::int64_t at = 0;
  for (; at + kGroups * kSize <= count; at += kGroups * kSize)
    *finite &= encode_groups<Vectors, kGroups>(from + at, bits, refinements, codes + at / 8 * bits,
                                               parameters + at / kSize * 4);
  for (; at + kSize <= count; at += kSize)
    *finite &=
        encode_groups<Vectors, 1>(from + at, bits, refinements, codes + at / 8 * bits, parameters + at / kSize * 4);
  return at;
}

bool encode(const float* from, std::int64_t count, const QuantFormat& format, int refinements, std::byte* codes,
            std::byte* parameters) {
  bool finite = true;
  const int bits = format.bits;
  std::int64_t first = 0;
  switch (format.group) {
    case 32: first = encode_run<2>(from, count, bits, refinements, codes, parameters, &finite); break;
    case 64: first = encode_run<4>(from, count, bits, refinements, codes, parameters, &finite); break;
    case 128: first = encode_run<8>(from, count, bits, refinements, codes, parameters, &finite); break;
    default: break;
  }
  for (; first < count; first += format.group) {
    const std::int64_t size = first + format.group <= count ? format.group : count - first;
    float value[max_group];
    std::uint8_t code[max_group];
    GroupParameters stored;
    __builtin_memcpy(value, from + first, static_cast<std::size_t>(size) * 4);
    finite &= encode_group(value, static_cast<int>(size), bits, refinements, code, &stored);
    put_group(code, size, bits, stored, codes + first / 8 * bits, parameters + first / format.group * 4);
  }
  return finite;
}

}  // namespace
}  // namespace flexgen
