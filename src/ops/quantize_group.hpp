// One group of the compressed form, in plain C++: the definition that every instruction set agrees with bit for bit.
//
// Sums run in sixteen lanes, element i in lane i % 16, then l + (l + 8), l + (l + 4), (0 + 1) + (2 + 3); a product and
// a sum round apart. Always inlined: translation units compiled for wider instruction sets include this header too.
#pragma once

#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "ops/element_access.hpp"

namespace flexgen {

inline constexpr int max_group = 256;
inline constexpr float largest_half = 65504.0F;

/// scale (lower half) and minimum, as stored.
struct GroupParameters {
  std::uint16_t scale = 0;
  std::uint16_t minimum = 0;
};
inline constexpr GroupParameters meaningless_group = {0x7E00, 0x7E00};  // NaN: what is read from it shows it

FLEXGEN_ALWAYS_INLINE float round_to_half(float value) {
#if defined(__F16C__)
  return _cvtsh_ss(_cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT));
#else
  return float_from_half_bits(half_bits_from_float(value));
#endif
}

struct LaneSum {
  float lane[16] = {};

  FLEXGEN_ALWAYS_INLINE void add(int element, float value) { lane[element % 16] += value; }
  FLEXGEN_ALWAYS_INLINE float total() const {
    float four[4];
    for (int l = 0; l < 4; ++l) four[l] = (lane[l] + lane[l + 8]) + (lane[l + 4] + lane[l + 12]);
    return (four[0] + four[1]) + (four[2] + four[3]);
  }
};

/// A scale and a minimum, the codes they give, and what the next line is fitted to (y: value - minimum).
struct GroupFit {
  float scale = 0.0F, minimum = 0.0F;
  float error = 0.0F;  // sum of squares
  float sum_code = 0.0F, sum_code_squared = 0.0F, sum_y = 0.0F, sum_code_y = 0.0F;
};

/// What comes next after `fit`: false when nothing does.
FLEXGEN_ALWAYS_INLINE bool next_line(const GroupFit& fit, float count, float* scale, float* minimum) {
  const float denominator = count * fit.sum_code_squared - fit.sum_code * fit.sum_code;
  const float slope = (count * fit.sum_code_y - fit.sum_code * fit.sum_y) / denominator;
  const float offset = fit.minimum + (fit.sum_y - slope * fit.sum_code) / count;
  *scale = round_to_half(slope);
  *minimum = round_to_half(offset);
  // Without jumps: callers do this for many groups side by side.
  return bool((denominator > 0.0F) & (*scale > 0.0F) & (*scale <= largest_half) & (*minimum >= -largest_half) &
              (*minimum <= largest_half));
}

/// Codes of `value` [count], each within +-65504, for this scale (> 0) and minimum.
FLEXGEN_ALWAYS_INLINE GroupFit fit_codes(const float* value, int count, float scale, float minimum, float largest_code,
                                         std::uint8_t* code) {
  LaneSum error, sum_code, sum_code_squared, sum_y, sum_code_y;
  for (int i = 0; i < count; ++i) {
    const float y = value[i] - minimum;
    float c = y / scale;
    c = c < 0.0F ? 0.0F : c > largest_code ? largest_code : c;
    c = (c + 12582912.0F) - 12582912.0F;  // 1.5 * 2^23: rounds to the nearest, halves to even
    code[i] = static_cast<std::uint8_t>(c);
    const float off = value[i] - (c * scale + minimum);
    error.add(i, off * off);
    sum_code.add(i, c);
    sum_code_squared.add(i, c * c);
    sum_y.add(i, y);
    sum_code_y.add(i, c * y);
  }
  return {scale, minimum, error.total(), sum_code.total(), sum_code_squared.total(), sum_y.total(), sum_code_y.total()};
}

/// Encodes value [count <= max_group], which it clamps to +-65504. False: there is a NaN or an infinity.
FLEXGEN_ALWAYS_INLINE bool encode_group(float* value, int count, int bits, int refinements, std::uint8_t* code,
                                        GroupParameters* parameters) {
  const float largest_code = static_cast<float>((1 << bits) - 1);
  float smallest = largest_half, largest = -largest_half;
  bool finite = true;
  for (int i = 0; i < count; ++i) {
    finite &= value[i] - value[i] == 0.0F;
    value[i] = value[i] < -largest_half ? -largest_half : value[i] > largest_half ? largest_half : value[i];
    smallest = value[i] < smallest ? value[i] : smallest;
    largest = value[i] > largest ? value[i] : largest;
  }
  for (int i = 0; i < count; ++i) code[i] = 0;
  *parameters = meaningless_group;
  if (!finite) return false;
  parameters->minimum = half_bits_from_float(smallest);
  parameters->scale = half_bits_from_float((largest - smallest) / largest_code);
  float scale = float_from_half_bits(parameters->scale);
  float minimum = float_from_half_bits(parameters->minimum);
  if (scale == 0.0F) return true;
  GroupFit best = fit_codes(value, count, scale, minimum, largest_code, code);
  std::uint8_t other[max_group];
  for (int i = 0; i < refinements && next_line(best, static_cast<float>(count), &scale, &minimum); ++i) {
    const GroupFit fit = fit_codes(value, count, scale, minimum, largest_code, other);
    if (!(fit.error < best.error)) break;
    best = fit;
    *parameters = {half_bits_from_float(scale), half_bits_from_float(minimum)};
    __builtin_memcpy(code, other, static_cast<std::size_t>(count));
  }
  return true;
}

/// Element `index` of a run of codes.
FLEXGEN_ALWAYS_INLINE std::uint32_t load_code(const std::byte* codes, int bits, std::int64_t index) {
  if (bits == 8) return static_cast<std::uint8_t>(codes[index]);
  std::uint32_t word;
  __builtin_memcpy(&word, codes + index / 8 * 4, 4);
  const std::int64_t place = index % 8;
  return word >> (place % 2 * 16 + place / 2 * 4) & 15U;
}

/// Packs code [count] into whole words of eight elements; what is missing is zero.
FLEXGEN_ALWAYS_INLINE void pack_codes(const std::uint8_t* code, std::int64_t count, int bits, std::byte* to) {
  for (std::int64_t first = 0; first < count; first += 8) {
    std::uint64_t bytes = 0;
    std::uint32_t word = 0;
    for (std::int64_t i = 0; i < 8 && first + i < count; ++i) {
      bytes |= static_cast<std::uint64_t>(code[first + i]) << (8 * i);
      word |= static_cast<std::uint32_t>(code[first + i]) << (i % 2 * 16 + i / 2 * 4);
    }
    if (bits == 8) __builtin_memcpy(to + first, &bytes, 8);
    else __builtin_memcpy(to + first / 2, &word, 4);
  }
}

}  // namespace flexgen
