#include "ops/quantize.hpp"

#include <gtest/gtest.h>

#include <random>

#include "base/error.hpp"
#include "ops/host/stored/stored_kernels.hpp"
#include "ops/quantize_rows.hpp"
#include "tests/support/device_fixture.hpp"

namespace flexgen::test {
namespace {

/// A compressed matrix on the host, with a gap between rows, poisoned.
struct CompressedMatrix {
  CompressedMatrix(std::int64_t rows, std::int64_t cols, DType dtype, QuantFormat format, std::int64_t gap = 16)
      : bytes(static_cast<std::size_t>(rows * (format.row_bytes(cols) + gap)), std::byte{0xFF}),
        view{bytes.data(), rows, cols, format.row_bytes(cols) + gap, dtype, format} {}
  std::vector<std::byte> bytes;
  MatrixView view;
};

const QuantFormat kFormats[] = {{4, 32}, {4, 64}, {4, 128}, {8, 32}, {8, 64}, {8, 128}, {4, 24}, {8, 8}, {4, 256}};

std::string name_of(const QuantFormat& format) {
  return std::to_string(format.bits) + " bits, groups of " + std::to_string(format.group);
}

/// Numbers of many kinds of groups: wide, narrow, far from zero, equal, tiny, beyond float16.
std::vector<float> various(std::int64_t count, std::uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float x = normal(generator);
    switch (i / 64 % 6) {
      case 0: values[i] = x; break;
      case 1: values[i] = 1e-3F * x; break;
      case 2: values[i] = 100.0F + x; break;
      case 3: values[i] = i % 3 == 0 ? 0.25F : 0.25F; break;
      case 4: values[i] = 1e-8F * x; break;
      default: values[i] = 60000.0F * x; break;
    }
  }
  return values;
}

TEST(Quantize, WordsAreLaidOutAsStored) {
  HostMatrix plain(1, 16, DType::float32);
  for (int i = 0; i < 16; ++i) plain.set(0, i, static_cast<float>(i));
  CompressedMatrix four(1, 16, DType::float32, {4, 32});
  ASSERT_TRUE(quantize_rows(plain.view(), four.view, 0));
  std::uint32_t words[8];
  ASSERT_EQ(four.view.quant.row_bytes(16), 32);
  std::memcpy(words, four.bytes.data(), 32);
  EXPECT_EQ(words[0], 0x75316420U);
  EXPECT_EQ(words[1], 0xFDB9ECA8U);
  EXPECT_EQ(words[2], 0U) << "padding";
  EXPECT_EQ(words[4], 0x00003C00U) << "scale 1, minimum 0";
  EXPECT_EQ(words[5], 0U) << "padding";

  plain.set(0, 15, 255.0F);
  CompressedMatrix eight(1, 16, DType::float32, {8, 32});
  ASSERT_TRUE(quantize_rows(plain.view(), eight.view, 0));
  for (int i = 0; i < 15; ++i) EXPECT_EQ(static_cast<int>(eight.bytes[static_cast<std::size_t>(i)]), i);
  EXPECT_EQ(static_cast<int>(eight.bytes[15]), 255);
}

TEST(Quantize, EveryInstructionSetEncodesAsTheReference) {
  for (const StoredKernels* const* set = supported_stored_kernels(); *set != nullptr; ++set)
    for (const QuantFormat& format : kFormats)
      for (const std::int64_t count : {1, 7, 12, 32, 64, 100, 128, 200, 768})
        for (const int refinements : {0, 2, 8}) {
          SCOPED_TRACE(std::string((*set)->name) + ", " + name_of(format) + ", " + std::to_string(count));
          const std::vector<float> values = various(count, static_cast<std::uint32_t>(count));
          std::vector<std::byte> codes(static_cast<std::size_t>(format.code_bytes(count)), std::byte{0xFF});
          std::vector<std::byte> parameters(static_cast<std::size_t>(format.parameter_bytes(count)), std::byte{0xFF});
          std::vector<std::byte> codes2 = codes, parameters2 = parameters;
          ASSERT_TRUE(quantize_run_reference(reinterpret_cast<const std::byte*>(values.data()), DType::float32, 0,
                                             count, format, refinements, codes.data(), parameters.data()));
          ASSERT_TRUE((*set)->encode(values.data(), count, format, refinements, codes2.data(), parameters2.data()));
          ASSERT_TRUE(codes == codes2);
          ASSERT_TRUE(parameters == parameters2);
        }
}

TEST(Quantize, EveryInstructionSetDecodesAsTheReference) {
  for (const StoredKernels* const* set = supported_stored_kernels(); *set != nullptr; ++set)
    for (const QuantFormat& format : kFormats)
      for (const std::int64_t count : {1, 7, 12, 32, 64, 100, 128, 200, 768})
        for (const DType dtype : kAllDTypes) {
          SCOPED_TRACE(std::string((*set)->name) + ", " + name_of(format) + ", " + std::to_string(count));
          CompressedMatrix stored(1, count, dtype, format);
          const std::vector<float> values = various(count, 5);
          const MatrixView from{reinterpret_cast<std::byte*>(const_cast<float*>(values.data())), 1, count, count,
                                DType::float32};
          ASSERT_TRUE(quantize_rows_reference(from, stored.view, 2));
          HostMatrix expected(1, count, dtype, 3), actual(1, count, dtype, 3);
          dequantize_rows_reference(stored.view, expected.view());
          (*set)->decode(stored.view.data, stored.view.data + format.row_parameter_offset(count), format, count, dtype,
                         actual.bytes().data());
          ASSERT_TRUE(actual.bytes() == expected.bytes());
        }
}

TEST(Quantize, RowsOfEveryTypeAsTheReference) {
  for (const DType dtype : kAllDTypes)
    for (const QuantFormat& format : kFormats) {
      SCOPED_TRACE(name_of(format));
      HostMatrix plain = HostMatrix::random(700, 200, dtype, 3, 5, 2.0F);  // several tasks
      CompressedMatrix expected(700, 200, dtype, format), actual(700, 200, dtype, format);
      ASSERT_TRUE(quantize_rows_reference(plain.view(), expected.view, weight_refinements));
      ASSERT_TRUE(quantize_rows(plain.view(), actual.view, weight_refinements));
      EXPECT_TRUE(actual.bytes == expected.bytes);
      HostMatrix back(700, 200, dtype, 7), back2 = back;
      dequantize_rows({}, actual.view, back.view());
      dequantize_rows_reference(actual.view, back2.view());
      EXPECT_TRUE(back.bytes() == back2.bytes());
    }
}

/// In float64, from the stored words alone: no value is farther off than half a step (and the rounding of the minimum),
/// and refining makes no group worse.
TEST(Quantize, ErrorsAreWithinHalfAStepAndRefiningLowersThem) {
  for (const QuantFormat& format : kFormats) {
    SCOPED_TRACE(name_of(format));
    const std::int64_t cols = 1000;
    HostMatrix plain = HostMatrix::random(4, cols, DType::float32, 11, 0, 3.0F);
    const auto squares = [&](int refinements, bool bounded) {
      CompressedMatrix stored(4, cols, DType::float32, format);
      EXPECT_TRUE(quantize_rows(plain.view(), stored.view, refinements));
      std::vector<double> error(static_cast<std::size_t>(4 * format.num_groups(cols)));
      for (std::int64_t r = 0; r < 4; ++r)
        for (std::int64_t c = 0; c < cols; ++c) {
          const std::byte* row = stored.view.row(r);
          std::uint32_t word, parameters;
          std::memcpy(&parameters, row + format.row_parameter_offset(cols) + c / format.group * 4, 4);
          std::memcpy(&word, row + c / 8 * format.bits + (format.bits == 8 ? c % 8 / 4 * 4 : 0), 4);
          const std::uint32_t code =
              format.bits == 8 ? word >> (c % 4 * 8) & 255U : word >> (c % 2 * 16 + c % 8 / 2 * 4) & 15U;
          const double scale = float_from_half_bits(static_cast<std::uint16_t>(parameters));
          const double minimum = float_from_half_bits(static_cast<std::uint16_t>(parameters >> 16));
          const double off = plain.at(r, c) - (minimum + code * scale);
          if (bounded) {
            const double rounding = std::abs(minimum) * 0x1p-11 + scale * ((1 << format.bits) - 1) * 0x1p-11;
            EXPECT_LE(std::abs(off), scale / 2 + rounding + 1e-6);
          }
          error[static_cast<std::size_t>(r * format.num_groups(cols) + c / format.group)] += off * off;
        }
      return error;
    };
    const std::vector<double> start = squares(0, true), two = squares(2, false), eight = squares(8, false);
    double sum_start = 0.0, sum_eight = 0.0;
    for (std::size_t i = 0; i < start.size(); ++i) {
      EXPECT_LE(two[i], start[i] * (1 + 1e-4));
      EXPECT_LE(eight[i], two[i] * (1 + 1e-4));
      sum_start += start[i], sum_eight += eight[i];
    }
    EXPECT_LT(sum_eight, sum_start * (format.bits == 4 ? 0.97 : 1.0));
  }
}

TEST(Quantize, WhatIsNotFiniteIsSaidAndSeen) {
  for (const float bad : {NAN, INFINITY, -INFINITY})
    for (const std::int64_t at : {0, 63, 70, 129}) {
      HostMatrix plain = HostMatrix::random(2, 130, DType::float32, 2);
      plain.set(1, at, bad);
      CompressedMatrix stored(2, 130, DType::float32, {4, 64});
      EXPECT_FALSE(quantize_rows(plain.view(), stored.view, 2));
      HostMatrix back(2, 130, DType::float32);
      dequantize_rows({}, stored.view, back.view());
      for (std::int64_t c = 0; c < 130; ++c) {
        EXPECT_FALSE(std::isnan(back.at(0, c)));
        EXPECT_EQ(std::isnan(back.at(1, c)), c / 64 == at / 64);
      }
    }
}

TEST(Quantize, EmptyAndMismatchedMatrices) {
  HostMatrix plain(2, 64, DType::float32);
  plain.fill(0.0F);
  CompressedMatrix other(2, 128, DType::float32, {4, 64}), odd(2, 64, DType::float32, {4, 12});
  EXPECT_THROW(quantize_rows(plain.view(), other.view, 0), InternalError);
  EXPECT_THROW(quantize_rows(plain.view(), odd.view, 0), InternalError);
  EXPECT_THROW(quantize_rows(plain.view(), plain.view(), 0), InternalError);
  CompressedMatrix none(0, 64, DType::float32, {4, 64});
  EXPECT_TRUE(quantize_rows(plain.view().row_range(0, 0), none.view, 0));
}

}  // namespace
}  // namespace flexgen::test
