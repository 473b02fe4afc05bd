#include "ops/layer_norm.hpp"

#include <gtest/gtest.h>

#include "tests/support/device_fixture.hpp"

namespace flexgen::test {
namespace {

class LayerNormTest : public OnDevice {
 protected:
  struct Case {
    std::int64_t tokens, hidden;
    DType dtype = DType::float32;
    bool gamma = true, beta = true, in_place = false;
    std::int64_t padding = 0;
    float offset = 0.0F;
  };

  HostMatrix run(HostMatrix& x, const LayerNormArgs& host_args, HostMatrix& gamma, HostMatrix& beta, bool in_place) {
    HostMatrix poisoned(x.rows(), x.cols(), x.dtype());
    LayerNormArgs args = host_args;
    args.x = upload(x);
    if (args.gamma) args.gamma = upload(gamma);
    if (args.beta) args.beta = upload(beta);
    args.out = in_place ? args.x : upload(poisoned);
    layer_norm(context(), args);
    return download(args.out, in_place ? x : poisoned);
  }

  void compare(const Case& c) {
    SCOPED_TRACE(std::to_string(c.tokens) + " x " + std::to_string(c.hidden) + " " + std::string(dtype_name(c.dtype)));
    HostMatrix x = HostMatrix::random(c.tokens, c.hidden, c.dtype, 7, c.padding, 3.0F);
    for (std::int64_t r = 0; r < c.tokens; ++r)
      for (std::int64_t i = 0; i < c.hidden; ++i) x.set(r, i, x.at(r, i) + c.offset);
    HostMatrix gamma = HostMatrix::random(1, c.hidden, c.dtype, 8);
    HostMatrix beta = HostMatrix::random(1, c.hidden, c.dtype, 9);
    HostMatrix expected(c.tokens, c.hidden, c.dtype);
    LayerNormArgs args;
    args.x = x.view();
    if (c.gamma) args.gamma = gamma.view();
    if (c.beta) args.beta = beta.view();
    args.out = expected.view();
    layer_norm_reference(args);
    const HostMatrix actual = run(x, args, gamma, beta, c.in_place);
    Tolerance tolerance = tolerance_of(c.dtype);
    tolerance.absolute += tolerance.relative + 3e-7 * std::abs(c.offset);
    expect_near(actual, expected, tolerance, "layer_norm");
  }
};

TEST_P(LayerNormTest, MatchesTheReference) {
  for (const DType dtype : kAllDTypes) {
    for (const std::int64_t hidden : {1, 5, 16, 67, 768, 1030}) {
      compare({.tokens = 1, .hidden = hidden, .dtype = dtype});
      compare({.tokens = 37, .hidden = hidden, .dtype = dtype});
    }
  }
}

TEST_P(LayerNormTest, AbsentGammaAndBeta) {
  for (const DType dtype : kAllDTypes) {
    compare({.tokens = 3, .hidden = 50, .dtype = dtype, .gamma = false});
    compare({.tokens = 3, .hidden = 50, .dtype = dtype, .beta = false});
    compare({.tokens = 3, .hidden = 50, .dtype = dtype, .gamma = false, .beta = false});
  }
}

TEST_P(LayerNormTest, InPlaceAndStrided) {
  for (const DType dtype : kAllDTypes) {
    compare({.tokens = 9, .hidden = 100, .dtype = dtype, .in_place = true});
    compare({.tokens = 9, .hidden = 100, .dtype = dtype, .padding = 12});
    compare({.tokens = 9, .hidden = 99, .dtype = dtype, .in_place = true, .padding = 5});
  }
}

TEST_P(LayerNormTest, SurvivesALargeMean) {
  compare({.tokens = 4, .hidden = 512, .dtype = DType::float32, .offset = 500.0F});
}

TEST_P(LayerNormTest, SameBitsInAnyBatch) {
  for (const DType dtype : kAllDTypes) {
    HostMatrix x = HostMatrix::random(65, 333, dtype, 10);
    HostMatrix gamma = HostMatrix::random(1, 333, dtype, 11);
    HostMatrix beta = HostMatrix::random(1, 333, dtype, 12);
    LayerNormArgs args;
    args.gamma = gamma.view();
    args.beta = beta.view();
    const HostMatrix all = run(x, args, gamma, beta, false);
    for (const std::int64_t row : {0, 31, 64}) {
      HostMatrix one(1, 333, dtype);
      for (int c = 0; c < 333; ++c) one.set(0, c, x.at(row, c));
      const HostMatrix alone = run(one, args, gamma, beta, false);
      for (int c = 0; c < 333; ++c) ASSERT_EQ(alone.at(0, c), all.at(row, c)) << dtype_name(dtype);
    }
  }
}

FLEXGEN_ON_EVERY_DEVICE(LayerNormTest);

TEST(LayerNormReference, SmallCaseByHand) {
  HostMatrix x(1, 4, DType::float32), gamma(1, 4, DType::float32), out(1, 4, DType::float32);
  for (int i = 0; i < 4; ++i) x.set(0, i, static_cast<float>(2 * i)), gamma.set(0, i, static_cast<float>(i));
  LayerNormArgs args;
  args.x = x.view(), args.gamma = gamma.view(), args.out = out.view();
  args.epsilon = 4.0F;  // mean 3, variance 5
  layer_norm_reference(args);
  for (int i = 0; i < 4; ++i) EXPECT_FLOAT_EQ(out.at(0, i), static_cast<float>((2 * i - 3) / 3.0 * i));
}

}  // namespace
}  // namespace flexgen::test
