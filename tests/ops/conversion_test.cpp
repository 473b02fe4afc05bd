#include <gtest/gtest.h>

#include <bit>
#include <random>
#include <vector>

#include "ops/element_access.hpp"
#include "ops/elementwise.hpp"
#include "ops/host/host_kernels.hpp"

namespace flexgen::test {
namespace {

// What a pattern of 1 + exponent + mantissa bits means, from the definition.
double value_of(std::uint32_t bits, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = static_cast<int>(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const double mantissa = bits & ((1U << mantissa_bits) - 1);
  const double sign = (bits >> (exponent_bits + mantissa_bits)) != 0 ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1) return mantissa != 0 ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp(1.0 + std::ldexp(mantissa, -mantissa_bits), exponent - bias);
}

bool is_nan_bits(std::uint16_t bits, DType dtype) {
  return dtype == DType::float16 ? (bits & 0x7FFF) > 0x7C00 : (bits & 0x7FFF) > 0x7F80;
}

TEST(Conversion, EveryPatternHasItsValue) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const float half = float_from_half_bits(static_cast<std::uint16_t>(bits));
    const double expected = value_of(bits, 5, 10);
    ASSERT_TRUE(half == expected || (std::isnan(half) && std::isnan(expected))) << bits;
    const float bfloat = float_from_bfloat16_bits(static_cast<std::uint16_t>(bits));
    const double expected_bfloat = value_of(bits, 8, 7);
    ASSERT_TRUE(bfloat == expected_bfloat || (std::isnan(bfloat) && std::isnan(expected_bfloat))) << bits;
  }
}

TEST(Conversion, Float64IsRoundedToFloat32Once) {
  std::vector<double> from{0.0, -0.0, 1.0 / 3, -1e300, 1e-60, 65504.5, 1 + 0x1p-24, 1 + 0x1p-24 + 0x1p-50, INFINITY};
  for (int i = 0; i < 3000; ++i) from.push_back(std::ldexp(1.0 + i / 3001.0, i % 40 - 20));
  std::vector<float> to(from.size());
  convert_elements(reinterpret_cast<const std::byte*>(from.data()), DType::float64,
                   reinterpret_cast<std::byte*>(to.data()), DType::float32, from.size());
  for (std::size_t i = 0; i < from.size(); ++i)
    ASSERT_EQ(std::bit_cast<std::uint32_t>(to[i]), std::bit_cast<std::uint32_t>(static_cast<float>(from[i]))) << i;
  std::vector<std::uint16_t> halves(from.size());
  convert_elements(reinterpret_cast<const std::byte*>(from.data()), DType::float64,
                   reinterpret_cast<std::byte*>(halves.data()), DType::float16, from.size());
  for (std::size_t i = 0; i < from.size(); ++i)
    ASSERT_EQ(halves[i], half_bits_from_float(static_cast<float>(from[i]))) << i;
  std::vector<double> back(to.size());
  convert_elements(reinterpret_cast<const std::byte*>(to.data()), DType::float32,
                   reinterpret_cast<std::byte*>(back.data()), DType::float64, to.size());
  for (std::size_t i = 0; i < to.size(); ++i) ASSERT_EQ(back[i], static_cast<double>(to[i])) << i;
}

// Every pattern, the midpoints between neighbours, and the floats just beside those.
TEST(Conversion, RoundsToNearestEven) {
  for (const DType dtype : {DType::float16, DType::bfloat16}) {
    const auto widen = [&](std::uint16_t b) {
      return dtype == DType::float16 ? float_from_half_bits(b) : float_from_bfloat16_bits(b);
    };
    const auto narrow = [&](float f) {
      return dtype == DType::float16 ? half_bits_from_float(f) : bfloat16_bits_from_float(f);
    };
    const std::uint32_t infinity = dtype == DType::float16 ? 0x7C00 : 0x7F80;
    const float past_largest = dtype == DType::float16 ? 65536.0F : INFINITY;
    for (std::uint32_t bits = 0; bits < infinity; ++bits) {
      const float value = widen(static_cast<std::uint16_t>(bits));
      ASSERT_EQ(narrow(value), bits);
      ASSERT_EQ(narrow(-value), bits | 0x8000);
      const float next = bits + 1 == infinity ? past_largest : widen(static_cast<std::uint16_t>(bits + 1));
      if (std::isinf(next)) continue;
      const float middle = static_cast<float>((static_cast<double>(value) + next) / 2);
      ASSERT_EQ(narrow(middle), bits % 2 == 0 ? bits : bits + 1) << bits;
      ASSERT_EQ(narrow(std::nextafter(middle, 0.0F)), bits) << bits;
      ASSERT_EQ(narrow(std::nextafter(middle, INFINITY)), bits + 1) << bits;
    }
    ASSERT_EQ(narrow(INFINITY), infinity);
    ASSERT_EQ(narrow(std::numeric_limits<float>::max()), infinity);
    ASSERT_TRUE(is_nan_bits(narrow(NAN), dtype));
    ASSERT_TRUE(is_nan_bits(narrow(std::bit_cast<float>(0xFF800001U)), dtype));
  }
}

TEST(Conversion, VectorKernelsAgreeWithScalarOnEveryPattern) {
  std::vector<std::uint16_t> patterns(65536);
  for (std::uint32_t i = 0; i < 65536; ++i) patterns[i] = static_cast<std::uint16_t>(i);
  std::mt19937 generator(1);
  std::vector<float> floats(100003);
  for (float& f : floats) f = std::bit_cast<float>(static_cast<std::uint32_t>(generator()));
  for (std::size_t i = 0; i < 40000; ++i)
    floats[i] = std::ldexp(floats[i] - std::trunc(floats[i]), static_cast<int>(i % 44) - 27);
  for (auto set = supported_host_kernels(); *set != nullptr; ++set) {
    for (const DType dtype : {DType::float16, DType::bfloat16}) {
      std::vector<float> widened(65536);
      (*set)->to_float(reinterpret_cast<const std::byte*>(patterns.data()), dtype, widened.data(), 65536);
      for (std::uint32_t i = 0; i < 65536; ++i) {
        const float expected = load_element(reinterpret_cast<const std::byte*>(patterns.data()), dtype, i);
        ASSERT_TRUE(std::bit_cast<std::uint32_t>(widened[i]) == std::bit_cast<std::uint32_t>(expected) ||
                    (std::isnan(widened[i]) && std::isnan(expected)))
            << (*set)->name << " " << i;
      }
      std::vector<std::uint16_t> narrowed(floats.size());
      (*set)->from_float(floats.data(), reinterpret_cast<std::byte*>(narrowed.data()), dtype,
                         static_cast<std::int64_t>(floats.size()));
      for (std::size_t i = 0; i < floats.size(); ++i) {
        const std::uint16_t expected =
            dtype == DType::float16 ? half_bits_from_float(floats[i]) : bfloat16_bits_from_float(floats[i]);
        ASSERT_TRUE(narrowed[i] == expected || (is_nan_bits(narrowed[i], dtype) && is_nan_bits(expected, dtype)))
            << (*set)->name << " " << floats[i];
      }
    }
  }
}

TEST(ConvertElements, AllPairsLargeAndSmall) {
  const DType dtypes[] = {DType::float32, DType::float16, DType::bfloat16};
  for (const std::uint64_t count : {0ULL, 1ULL, 1000ULL, 600001ULL}) {
    for (const DType from : dtypes) {
      std::vector<std::byte> source(count * element_bytes(from));
      fill_random(source.data(), from, count, 3.0F, 9, 0);
      for (const DType to : dtypes) {
        std::vector<std::byte> target(count * element_bytes(to), std::byte{0xFF});
        convert_elements(source.data(), from, target.data(), to, count);
        for (std::uint64_t i = 0; i < count; ++i) {
          const auto at = static_cast<std::int64_t>(i);
          std::byte expected[4];
          store_element(expected, to, 0, load_element(source.data(), from, at));
          ASSERT_EQ(load_element(target.data(), to, at), load_element(expected, to, 0)) << i;
        }
      }
    }
  }
}

TEST(FillRandom, SlicesAreConsistent) {
  const std::uint64_t count = 400000;
  for (const DType dtype : {DType::float32, DType::float16}) {
    const std::uint64_t bytes = element_bytes(dtype);
    std::vector<std::byte> all(count * bytes);
    fill_random(all.data(), dtype, count, 0.5F, 1234, 77);
    for (const auto& [first, length] :
         {std::pair{0ULL, 1ULL}, {13ULL, 1029ULL}, {262143ULL, 2ULL}, {5ULL, 399995ULL}}) {
      std::vector<std::byte> slice(length * bytes);
      fill_random(slice.data(), dtype, length, 0.5F, 1234, 77 + first);
      EXPECT_TRUE(std::equal(slice.begin(), slice.end(), all.begin() + static_cast<std::ptrdiff_t>(first * bytes)));
    }
  }
}

TEST(FillRandom, IsUniformAndDependsOnTheSeed) {
  const std::uint64_t count = 200000;
  std::vector<float> values(count), other(count);
  fill_random(reinterpret_cast<std::byte*>(values.data()), DType::float32, count, 2.0F, 1, 0);
  fill_random(reinterpret_cast<std::byte*>(other.data()), DType::float32, count, 2.0F, 2, 0);
  double sum = 0.0, squares = 0.0, product = 0.0;
  for (std::uint64_t i = 0; i < count; ++i) {
    ASSERT_LE(std::abs(values[i]), 2.0F);
    sum += values[i];
    squares += static_cast<double>(values[i]) * values[i];
    product += static_cast<double>(values[i]) * other[i];
  }
  EXPECT_NEAR(sum / count, 0.0, 0.02);
  EXPECT_NEAR(squares / count, 4.0 / 3.0, 0.02);
  EXPECT_NEAR(product / count, 0.0, 0.02);
}

}  // namespace
}  // namespace flexgen::test
