// Codes and parameters of compressed values (spec/quantization.hpp) in registers.
//
// A code becomes a half by writing its bits into the mantissa of 1024 (or of 1024 with the code four places up, which
// a multiply-add brings back): no conversion, two codes at a time, exact.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "base/error.hpp"
#include "ops/cuda/cuda_elements.cuh"
#include "spec/quantization.hpp"

namespace flexgen {

/// Codes in a 32-bit word.
template <int kBits>
inline constexpr int kWordCodes = 32 / kBits;
/// What centred codes are counted from: products with them stay half as large.
template <int kBits>
inline constexpr int kCentre = 1 << (kBits - 1);

__device__ inline __half2 half2_of(std::uint32_t bits) { return *reinterpret_cast<const __half2*>(&bits); }
__device__ inline std::uint32_t bits_of(__half2 pair) { return *reinterpret_cast<const std::uint32_t*>(&pair); }

/// Scale and minimum of a group, in this order.
__device__ inline float2 scale_and_minimum(std::uint32_t word) { return __half22float2(half2_of(word)); }

/// (word & mask) | bits in one instruction, which the compiler makes two of.
__device__ inline std::uint32_t masked_or(std::uint32_t word, std::uint32_t mask, std::uint32_t bits) {
  std::uint32_t result;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(result) : "r"(word), "r"(mask), "r"(bits));
  return result;
}

/// The codes of a word, neighbours in one register, less kCentre where kCentred.
template <int kBits, bool kCentred>
__device__ inline void unpack_codes(std::uint32_t word, std::uint32_t (&pair)[kWordCodes<kBits> / 2]) {
  if constexpr (kBits == 4) {
    constexpr std::uint32_t kLow = kCentred ? 0xe408e408U : 0xe400e400U;   // -1024 - centre
    constexpr std::uint32_t kHigh = kCentred ? 0xd480d480U : 0xd400d400U;  // -64 - centre
    constexpr std::uint32_t kSixteenth = 0x2c002c00U;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const std::uint32_t codes = word >> (8 * i);
      const std::uint32_t low = masked_or(codes, 0x000f000fU, 0x64006400U);   // 1024 + code
      const std::uint32_t high = masked_or(codes, 0x00f000f0U, 0x64006400U);  // 1024 + 16 * code
      pair[2 * i] = bits_of(__hadd2(half2_of(low), half2_of(kLow)));
      pair[2 * i + 1] = bits_of(__hfma2(half2_of(high), half2_of(kSixteenth), half2_of(kHigh)));
    }
  } else {
    constexpr std::uint32_t kLow = kCentred ? 0xe480e480U : 0xe400e400U;
    pair[0] = bits_of(__hadd2(half2_of(__byte_perm(word, 0x64646464U, 0x4140)), half2_of(kLow)));
    pair[1] = bits_of(__hadd2(half2_of(__byte_perm(word, 0x64646464U, 0x4342)), half2_of(kLow)));
  }
}

/// Eight consecutive codes: a word of 4 bits or two of 8. `at` is on a boundary of four bytes.
template <int kBits>
struct EightCodes {
  std::uint32_t word[kBits / 4];

  __device__ void load(const std::byte* at) {
#pragma unroll
    for (int w = 0; w < kBits / 4; ++w) word[w] = reinterpret_cast<const std::uint32_t*>(at)[w];
  }
  /// Rounded once to float32: code * scale is exact.
  __device__ void values(float2 line, float (&value)[8]) const {
    constexpr int kPairs = kWordCodes<kBits> / 2;
#pragma unroll
    for (int w = 0; w < kBits / 4; ++w) {
      std::uint32_t pair[kPairs];
      unpack_codes<kBits, false>(word[w], pair);
#pragma unroll
      for (int i = 0; i < kPairs; ++i) {
        const float2 code = __half22float2(half2_of(pair[i]));
        value[(w * kPairs + i) * 2] = fmaf(code.x, line.x, line.y);
        value[(w * kPairs + i) * 2 + 1] = fmaf(code.y, line.x, line.y);
      }
    }
  }
};

/// Two neighbouring values from their codes, which are exact halves, as a pair of T: what dequantize_rows makes of
/// them.
template <typename T>
__device__ inline std::uint32_t dequantized_pair(std::uint32_t codes, std::uint32_t line) {
  if constexpr (std::is_same_v<T, __half>) {
    return bits_of(__hfma2(half2_of(codes), __low2half2(half2_of(line)), __high2half2(half2_of(line))));
  } else {
    const float2 code = __half22float2(half2_of(codes));
    const float2 parameters = scale_and_minimum(line);
    return pack_pair<T>(fmaf(code.x, parameters.x, parameters.y), fmaf(code.y, parameters.x, parameters.y));
  }
}

/// The first `left` of eight values, rounded to T; 16 bytes at a time where `vectors` says that `to` allows it.
template <typename T>
__device__ inline void store_eight(T* to, const float (&value)[8], int left, bool vectors) {
  constexpr int kVector = kVectorElements<T>;
  if (vectors && left >= 8) {
#pragma unroll
    for (int v = 0; v < 8 / kVector; ++v) {
      float part[kVector];
#pragma unroll
      for (int e = 0; e < kVector; ++e) part[e] = value[v * kVector + e];
      reinterpret_cast<uint4*>(to)[v] = pack<T>(part);
    }
    return;
  }
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    if (e < left) to[e] = from_float<T>(value[e]);
  }
}

/// log2 of the group's length.
inline int group_shift_of(const QuantFormat& quant) {
  FLEXGEN_CHECK(quant.has_known_bits(), "compressed values have 4 or 8 bits");
  FLEXGEN_CHECK(quant.has_known_group(), "the GPU takes compressed values in groups of 32, 64 or 128");
  return quant.group == 32 ? 5 : quant.group == 64 ? 6 : 7;
}

}  // namespace flexgen
