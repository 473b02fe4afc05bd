// Reading and writing single elements of any dtype as float32, in plain C++: what the reference kernels use, and the
// fallback of the vector kernels. Rounds to nearest even; NaN stays NaN. Source: IEEE 754-2008.
//
// Everything here is always inlined: translation units compiled for wider instruction sets include this header too,
// and no copy of theirs may end up serving the others.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "spec/dtype.hpp"

#define FLEXGEN_ALWAYS_INLINE [[gnu::always_inline]] inline

namespace flexgen {

FLEXGEN_ALWAYS_INLINE float float_from_half_bits(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000U) << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1FU;
  const std::uint32_t mantissa = half & 0x3FFU;
  if (exponent == 0x1F) {  // infinity, NaN
    const std::uint32_t quiet = mantissa != 0 ? 0x400000U : 0U;
    return std::bit_cast<float>(sign | 0x7F800000U | quiet | (mantissa << 13));
  }
  if (exponent == 0) {  // zero, subnormal: mantissa * 2^-24, exact in float32
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
  }
  return std::bit_cast<float>(sign | ((exponent + 112U) << 23) | (mantissa << 13));
}

FLEXGEN_ALWAYS_INLINE std::uint16_t half_bits_from_float(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint16_t sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return static_cast<std::uint16_t>(sign | 0x7E00U | ((magnitude >> 13) & 0x3FFU));
  if (magnitude >= 0x477FF000U) return static_cast<std::uint16_t>(sign | 0x7C00U);  // >= 65520 rounds to infinity
  if (magnitude < 0x38800000U) {  // below 2^-14: the sum with 0.5 leaves the rounded subnormal in the low bits
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3F000000U));
  }
  const std::uint32_t rounded = magnitude + 0xFFFU + ((magnitude >> 13) & 1U);
  return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000U) >> 13));
}

FLEXGEN_ALWAYS_INLINE float float_from_bfloat16_bits(std::uint16_t value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16);
}

FLEXGEN_ALWAYS_INLINE std::uint16_t bfloat16_bits_from_float(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

/// Element `index` of an array of `dtype`, widened (exact).
FLEXGEN_ALWAYS_INLINE float load_element(const std::byte* data, DType dtype, std::int64_t index) {
  if (dtype == DType::float32) {
    float value;
    __builtin_memcpy(&value, data + index * 4, 4);
    return value;
  }
  std::uint16_t bits;
  __builtin_memcpy(&bits, data + index * 2, 2);
  return dtype == DType::float16 ? float_from_half_bits(bits) : float_from_bfloat16_bits(bits);
}

/// Stores `value` as element `index`, rounded once.
FLEXGEN_ALWAYS_INLINE void store_element(std::byte* data, DType dtype, std::int64_t index, float value) {
  if (dtype == DType::float32) {
    __builtin_memcpy(data + index * 4, &value, 4);
    return;
  }
  const std::uint16_t bits = dtype == DType::float16 ? half_bits_from_float(value) : bfloat16_bits_from_float(value);
  __builtin_memcpy(data + index * 2, &bits, 2);
}

}  // namespace flexgen
