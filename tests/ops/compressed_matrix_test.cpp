// Ops that read compressed matrices: linear with a compressed weight, rows gathered from a compressed table.
#include <gtest/gtest.h>

#include "base/error.hpp"
#include "ops/embedding.hpp"
#include "ops/linear.hpp"
#include "ops/quantize.hpp"
#include "tests/support/device_fixture.hpp"

namespace flexgen::test {
namespace {

const QuantFormat kFormats[] = {{4, 32}, {4, 64}, {4, 128}, {8, 64}};

/// Random values, compressed, on the host.
struct Compressed {
  Compressed(std::int64_t rows, std::int64_t cols, DType dtype, const QuantFormat& format)
      : bytes(static_cast<std::size_t>(rows * (format.row_bytes(cols) + 32)), std::byte{0xFF}),
        view{bytes.data(), rows, cols, format.row_bytes(cols) + 32, dtype, format} {
    HostMatrix plain = HostMatrix::random(rows, cols, dtype, 17);
    EXPECT_TRUE(quantize_rows_reference(plain.view(), view, 2));
  }
  std::vector<std::byte> bytes;
  MatrixView view;
};

TEST(CompressedMatrix, LinearAsTheReference) {
  for (const DType dtype : kAllDTypes)
    for (const QuantFormat& format : kFormats)
      for (const std::int64_t in : {7, 64, 200, 1500})
        for (const std::int64_t tokens : {1, 3, 8, 9, 40}) {
          const std::int64_t out = in == 1500 ? 61 : 13;
          SCOPED_TRACE(std::string(dtype_name(dtype)) + " bits " + std::to_string(format.bits) + " in " +
                       std::to_string(in) + " tokens " + std::to_string(tokens));
          Compressed weight(out, in, dtype, format);
          HostMatrix x = HostMatrix::random(tokens, in, dtype, 3, 3), bias = HostMatrix::random(1, out, dtype, 4);
          HostMatrix residual = HostMatrix::random(tokens, out, dtype, 5, 2);
          HostMatrix expected(tokens, out, dtype, 6), actual(tokens, out, dtype, 6);
          LinearArgs args;
          args.x = x.view(), args.weight = weight.view, args.bias = bias.view(), args.residual = residual.view();
          args.activation = Activation::relu;
          args.out = expected.view();
          linear_reference(args);
          args.out = actual.view();
          linear({}, args);
          Tolerance tolerance = tolerance_of(dtype);
          tolerance.absolute += tolerance.relative * std::sqrt(static_cast<double>(in)) * 0.5;
          expect_near(actual, expected, tolerance, "linear");
        }
}

/// What a token's result is does not depend on the tokens beside it.
TEST(CompressedMatrix, LinearHasTheSameBitsForAnyTokens) {
  for (const DType dtype : kAllDTypes) {
    Compressed weight(300, 1100, dtype, {4, 64});
    HostMatrix x = HostMatrix::random(200, 1100, dtype, 3), all(200, 300, dtype);
    LinearArgs args;
    args.weight = weight.view, args.x = x.view(), args.out = all.view();
    linear({}, args);
    for (const std::int64_t tokens : {1, 2, 8, 30}) {
      HostMatrix some(tokens, 300, dtype);
      args.x = x.view().row_range(5, tokens), args.out = some.view();
      linear({}, args);
      for (std::int64_t t = 0; t < tokens; ++t)
        for (std::int64_t o = 0; o < 300; ++o) ASSERT_EQ(some.at(t, o), all.at(5 + t, o)) << dtype_name(dtype);
    }
  }
}

TEST(CompressedMatrix, GatheredRowsAsTheReference) {
  for (const DType dtype : kAllDTypes)
    for (const QuantFormat& format : kFormats)
      for (const std::int64_t cols : {12, 64, 200}) {
        Compressed table(50, cols, dtype, format);
        const std::vector<std::int32_t> index = {3, 49, 0, 3, 20};
        HostMatrix expected(5, cols, dtype, 2), actual(5, cols, dtype, 2);
        gather_rows_reference(table.view, index.data(), expected.view());
        gather_rows({}, table.view, index.data(), actual.view());
        EXPECT_TRUE(actual.bytes() == expected.bytes());
        HostMatrix whole(50, cols, dtype);
        dequantize_rows({}, table.view, whole.view());
        for (std::int64_t i = 0; i < 5; ++i)
          for (std::int64_t c = 0; c < cols; ++c)
            ASSERT_EQ(actual.at(i, c), whole.at(index[static_cast<std::size_t>(i)], c));
      }
}

TEST(CompressedMatrix, OtherOpsRefuseThem) {
  Compressed table(4, 64, DType::float32, {4, 64});
  HostMatrix out(1, 64, DType::float32);
  const std::int32_t index[1] = {0};
  EXPECT_THROW(add_gathered_rows({}, table.view, index, out.view()), InternalError);
  LinearArgs args;
  HostMatrix weight(64, 64, DType::float32);
  args.x = table.view, args.weight = weight.view(), args.out = out.view();
  EXPECT_THROW(linear({}, args), InternalError);
}

}  // namespace
}  // namespace flexgen::test
