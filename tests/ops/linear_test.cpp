#include "ops/linear.hpp"

#include <gtest/gtest.h>

#include "base/error.hpp"
#include "ops/host/host_ops.hpp"
#include "tests/support/device_fixture.hpp"

namespace flexgen::test {
namespace {

class LinearTest : public OnDevice {
 protected:
  struct Case {
    std::int64_t tokens, in, out;
    DType dtype = DType::float32;
    bool bias = true;
    bool residual = false;
    bool residual_in_place = false;
    Activation activation = Activation::none;
    bool float_out = false;
    std::int64_t padding = 0;
  };

  void compare(const Case& c) {
    SCOPED_TRACE(std::to_string(c.tokens) + " x " + std::to_string(c.in) + " -> " + std::to_string(c.out) + " " +
                 std::string(dtype_name(c.dtype)));
    const DType out_dtype = c.float_out ? DType::float32 : c.dtype;
    HostMatrix x = HostMatrix::random(c.tokens, c.in, c.dtype, 1, c.padding);
    HostMatrix weight = HostMatrix::random(c.out, c.in, c.dtype, 2, c.padding, 0.2F);
    HostMatrix bias = HostMatrix::random(1, c.out, c.dtype, 3);
    HostMatrix residual = HostMatrix::random(c.tokens, c.out, c.dtype, 4, c.padding);
    HostMatrix expected(c.tokens, c.out, out_dtype, c.padding);
    LinearArgs reference;
    reference.x = x.view();
    reference.weight = weight.view();
    if (c.bias) reference.bias = bias.view();
    if (c.residual) reference.residual = residual.view();
    reference.activation = c.activation;
    reference.out = expected.view();
    linear_reference(reference);

    HostMatrix poisoned(c.tokens, c.out, out_dtype, c.padding);
    LinearArgs args = reference;
    args.x = upload(x);
    args.weight = upload(weight);
    if (c.bias) args.bias = upload(bias);
    if (c.residual) args.residual = upload(residual);
    args.out = c.residual_in_place ? *args.residual : upload(poisoned);
    linear(context(), args);
    const HostMatrix actual = download(args.out, c.residual_in_place ? residual : poisoned);
    // Sums of `in` products of size 0.2; bfloat16 through oneDNN also rounds before activation and residual.
    Tolerance tolerance = tolerance_of(c.float_out ? DType::float32 : c.dtype);
    tolerance.absolute = std::max(tolerance.absolute, tolerance.relative * 2.0) * std::sqrt(1.0 + c.in / 64.0);
    if (c.dtype == DType::bfloat16 && !c.float_out) tolerance.absolute *= 2.0;
    expect_near(actual, expected, tolerance, "linear");
  }
};

TEST_P(LinearTest, OddSizesOfAllDtypes) {
  for (const DType dtype : kAllDTypes) {
    for (const std::int64_t tokens : {1, 2, 3, 5, 8, 9, 23, 101}) {
      compare({.tokens = tokens, .in = 67, .out = 45, .dtype = dtype});
      compare({.tokens = tokens, .in = 128, .out = 64, .dtype = dtype, .bias = false});
    }
  }
}

TEST_P(LinearTest, DepthsAroundTheBlockOfSums) {
  for (const DType dtype : kAllDTypes) {
    for (const std::int64_t in : {1, 15, 16, 1023, 1024, 1025, 2100}) {
      compare({.tokens = 3, .in = in, .out = 13, .dtype = dtype});
      compare({.tokens = 30, .in = in, .out = 13, .dtype = dtype});
    }
  }
}

TEST_P(LinearTest, ActivationsAndResiduals) {
  for (const DType dtype : kAllDTypes) {
    for (const Activation activation : {Activation::none, Activation::relu, Activation::gelu}) {
      for (const std::int64_t tokens : {2, 33}) {
        for (const bool bias : {true, false}) {
          Case c{.tokens = tokens, .in = 72, .out = 40, .dtype = dtype, .bias = bias, .activation = activation};
          compare(c);
          c.residual = true;
          compare(c);
          c.residual_in_place = true;
          compare(c);
        }
      }
    }
  }
}

TEST_P(LinearTest, StridedViews) {
  for (const DType dtype : kAllDTypes) {
    compare({.tokens = 7, .in = 40, .out = 30, .dtype = dtype, .residual = true, .padding = 3});
    compare({.tokens = 50, .in = 40, .out = 32, .dtype = dtype, .residual = true, .padding = 8});
  }
}

TEST_P(LinearTest, FloatLogitsOfHalfWeights) {
  for (const DType dtype : {DType::float16, DType::bfloat16}) {
    for (const std::int64_t tokens : {1, 6, 40}) {
      compare({.tokens = tokens, .in = 96, .out = 203, .dtype = dtype, .bias = false, .float_out = true});
      compare({.tokens = tokens, .in = 96, .out = 203, .dtype = dtype, .residual = true, .float_out = true});
    }
  }
}

TEST_P(LinearTest, WorksWithoutAWorkspace) {
  set_workspace(0);
  compare({.tokens = 17, .in = 512, .out = 40, .dtype = DType::float16, .residual = true});
}

TEST_P(LinearTest, ATokenOfNaNsSpoilsNoOtherToken) {
  for (const DType dtype : kAllDTypes) {
    for (const std::int64_t in : {32, 36, 52, 96, 104}) {
      for (const std::int64_t tokens : {3, 8, 9, 40}) {
        SCOPED_TRACE(std::string(dtype_name(dtype)) + " " + std::to_string(tokens) + " x " + std::to_string(in));
        HostMatrix weight = HostMatrix::random(48, in, dtype, 2);
        const auto product = [&](HostMatrix& x) {
          HostMatrix out(tokens, 48, dtype);
          LinearArgs args;
          args.x = upload(x);
          args.weight = upload(weight);
          args.out = upload(out);
          linear(context(), args);
          return download(args.out, out);
        };
        HostMatrix x = HostMatrix::random(tokens, in, dtype, 1);
        const HostMatrix sound = product(x);
        for (std::int64_t i = 0; i < in; ++i) x.set(tokens / 2, i, std::numeric_limits<float>::quiet_NaN());
        const HostMatrix actual = product(x);
        for (std::int64_t t = 0; t < tokens; ++t)
          for (std::int64_t c = 0; c < 48; ++c) {
            if (t == tokens / 2) ASSERT_TRUE(std::isnan(actual.at(t, c)));
            else ASSERT_EQ(actual.at(t, c), sound.at(t, c)) << t << ", " << c;
          }
      }
    }
  }
}

TEST_P(LinearTest, ReluKeepsANaN) {
  HostMatrix x = HostMatrix::random(2, 8, DType::float32, 1);
  x.set(1, 3, std::numeric_limits<float>::quiet_NaN());
  HostMatrix weight = HostMatrix::random(4, 8, DType::float32, 2);
  HostMatrix out(2, 4, DType::float32);
  LinearArgs args;
  args.x = upload(x);
  args.weight = upload(weight);
  args.out = upload(out);
  linear(context(), args);
  const HostMatrix actual = download(args.out, out);
  for (int c = 0; c < 4; ++c) {
    EXPECT_FALSE(std::isnan(actual.at(0, c)));
    EXPECT_TRUE(std::isnan(actual.at(1, c)));
  }
}

TEST_P(LinearTest, RefusesShapesThatDoNotFit) {
  HostMatrix x = HostMatrix::random(2, 8, DType::float32, 1);
  HostMatrix weight = HostMatrix::random(4, 7, DType::float32, 2);
  HostMatrix out(2, 4, DType::float32);
  LinearArgs args;
  args.x = x.view();
  args.weight = weight.view();
  args.out = out.view();
  EXPECT_THROW(linear(context(), args), InternalError);
}

FLEXGEN_ON_EVERY_DEVICE(LinearTest);

TEST(LinearReference, SmallCaseByHand) {
  HostMatrix x(1, 2, DType::float32), weight(2, 2, DType::float32);
  HostMatrix bias(1, 2, DType::float32), out(1, 2, DType::float32);
  x.set(0, 0, 2.0F), x.set(0, 1, -1.0F);
  weight.set(0, 0, 3.0F), weight.set(0, 1, 4.0F), weight.set(1, 0, -1.0F), weight.set(1, 1, 5.0F);
  bias.set(0, 0, 0.5F), bias.set(0, 1, 1.0F);
  LinearArgs args;
  args.x = x.view(), args.weight = weight.view(), args.bias = bias.view(), args.out = out.view();
  linear_reference(args);
  EXPECT_FLOAT_EQ(out.at(0, 0), 2.5F);
  EXPECT_FLOAT_EQ(out.at(0, 1), -6.0F);
  args.activation = Activation::relu;
  linear_reference(args);
  EXPECT_FLOAT_EQ(out.at(0, 1), 0.0F);
  args.activation = Activation::gelu;
  linear_reference(args);
  EXPECT_NEAR(out.at(0, 0), 2.5 * 0.9937903, 1e-5);  // 2.5 * Phi(2.5)
  args.activation = Activation::none;
  args.residual = x.view();
  linear_reference(args);
  EXPECT_FLOAT_EQ(out.at(0, 0), 4.5F);
}

// On the host a token's result does not depend on the tokens beside it: neither their number nor their values.
TEST(LinearHost, SameBitsInAnyBatch) {
  for (const DType dtype : kAllDTypes) {
    const std::int64_t in = 1500;
    HostMatrix x = HostMatrix::random(130, in, dtype, 5);
    HostMatrix weight = HostMatrix::random(77, in, dtype, 6);
    HostMatrix all(130, 77, DType::float32);
    LinearArgs args;
    args.x = x.view();
    args.weight = weight.view();
    args.out = all.view();
    linear_host(args);
    for (const auto& [first, count] : {std::pair{0, 1}, {7, 3}, {100, 8}, {20, 30}, {129, 1}}) {
      HostMatrix part(count, 77, DType::float32);
      args.x = x.view().row_range(first, count);
      args.out = part.view();
      linear_host(args);
      for (int r = 0; r < count; ++r)
        for (int c = 0; c < 77; ++c) ASSERT_EQ(part.at(r, c), all.at(first + r, c)) << dtype_name(dtype) << first;
    }
  }
}

}  // namespace
}  // namespace flexgen::test
