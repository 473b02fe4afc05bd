// The inner loops of every instruction set that this machine runs, each against the definition.
#include "ops/host/host_kernels.hpp"

#include <gtest/gtest.h>

#include "tests/support/device_fixture.hpp"

namespace flexgen::test {
namespace {

template <class Body>
void for_each_set(const Body& body) {
  for (auto set = supported_host_kernels(); *set != nullptr; ++set) {
    SCOPED_TRACE((*set)->name);
    body(**set);
  }
}

TEST(HostKernels, Dots) {
  for_each_set([](const HostKernels& kernels) {
    for (const DType dtype : kAllDTypes) {
      for (const std::int64_t k : {1, 3, 16, 37, 64}) {
        HostMatrix a = HostMatrix::random(7, k, DType::float32, 1, 2);
        HostMatrix b = HostMatrix::random(15, k, dtype, 2, 3);
        HostMatrix c = HostMatrix::random(7, 15, DType::float32, 3, 1);
        const HostMatrix before = c;
        for (const bool accumulate : {false, true}) {
          c = before;
          kernels.dots({reinterpret_cast<float*>(a.view().data), a.view().row_stride, b.view().data,
                        b.view().row_stride, dtype, 7, 15, k, reinterpret_cast<float*>(c.view().data),
                        c.view().row_stride, accumulate, accumulate ? b.view().data : nullptr});
          for (int i = 0; i < 7; ++i) {
            for (int j = 0; j < 15; ++j) {
              double expected = accumulate ? before.at(i, j) : 0.0;
              for (std::int64_t p = 0; p < k; ++p) expected += static_cast<double>(a.at(i, p)) * b.at(j, p);
              ASSERT_NEAR(c.at(i, j), expected, 1e-5) << k << " " << i << " " << j;
            }
          }
        }
      }
    }
  });
}

TEST(HostKernels, WeightedSum) {
  for_each_set([](const HostKernels& kernels) {
    for (const DType dtype : kAllDTypes) {
      for (const std::int64_t n : {1, 5, 16, 64, 83, 128}) {
        HostMatrix weight = HostMatrix::random(6, 20, DType::float32, 1, 2);
        HostMatrix v = HostMatrix::random(20, n, dtype, 2, 3);
        HostMatrix out = HostMatrix::random(6, n, DType::float32, 3, 1);
        const HostMatrix before = out;
        const std::vector<float> rescale = {0.5F, 1.0F, 0.0F, 2.0F, 0.25F, 0.1F};
        kernels.weighted_sum({reinterpret_cast<float*>(weight.view().data), weight.view().row_stride, rescale.data(),
                              v.view().data, v.view().row_stride, dtype, 6, n, 20,
                              reinterpret_cast<float*>(out.view().data), out.view().row_stride});
        for (int i = 0; i < 6; ++i) {
          for (std::int64_t j = 0; j < n; ++j) {
            double expected = static_cast<double>(before.at(i, j)) * rescale[static_cast<std::size_t>(i)];
            for (int k = 0; k < 20; ++k) expected += static_cast<double>(weight.at(i, k)) * v.at(k, j);
            ASSERT_NEAR(out.at(i, j), expected, 1e-5) << n;
          }
        }
      }
    }
  });
}

TEST(HostKernels, SoftmaxInSteps) {
  for_each_set([](const HostKernels& kernels) {
    HostMatrix scores = HostMatrix::random(1, 200, DType::float32, 4, 0, 60.0F);
    double maximum = -1e30, sum = 0.0;
    for (int i = 0; i < 200; ++i) maximum = std::max(maximum, 0.7 * scores.at(0, i));
    for (int i = 0; i < 200; ++i) sum += std::exp(0.7 * scores.at(0, i) - maximum);
    SoftmaxState state = kNothingSeen;
    std::vector<float> weights;
    for (int first = 0; first < 200; first += 37) {
      const int count = std::min(37, 200 - first);
      float score[48];
      for (int i = 0; i < count; ++i) score[i] = scores.at(0, first + i);
      const float shrink = kernels.softmax_step(score, count, 0.7F, &state);
      for (float& w : weights) w *= shrink;
      weights.insert(weights.end(), score, score + count);
      for (int i = count; i < (count + 15) / 16 * 16 && i < (count + 3) / 4 * 4; ++i) ASSERT_EQ(score[i], 0.0F);
    }
    EXPECT_NEAR(state.weight / sum, 1.0, 1e-5);
    for (int i = 0; i < 200; ++i) {
      const double expected = std::exp(0.7 * scores.at(0, i) - maximum) / sum;
      ASSERT_NEAR(weights[static_cast<std::size_t>(i)] / state.weight, expected, 1e-5 * expected + 1e-9) << i;
    }
  });
}

TEST(HostKernels, SoftmaxLetsANaNThrough) {
  for_each_set([](const HostKernels& kernels) {
    float score[16] = {1.0F, std::numeric_limits<float>::quiet_NaN(), 2.0F};
    SoftmaxState state = kNothingSeen;
    kernels.softmax_step(score, 3, 1.0F, &state);
    EXPECT_TRUE(std::isnan(state.weight));
  });
}

TEST(HostKernels, RandomIsTheSameOnEverySet) {
  std::vector<float> expected(1000), actual(1000);
  baseline_kernels.random(expected.data(), 1000, 0.3F, 42, 1ULL << 40);
  for_each_set([&](const HostKernels& kernels) {
    kernels.random(actual.data(), 1000, 0.3F, 42, 1ULL << 40);
    EXPECT_EQ(actual, expected);
  });
}

TEST(HostKernels, Argmax) {
  for_each_set([](const HostKernels& kernels) {
    for (int count = 1; count < 70; ++count) {
      std::vector<float> x(static_cast<std::size_t>(count), -1.0F);
      x[static_cast<std::size_t>(count / 2)] = x.back() = 5.0F;
      ASSERT_EQ(kernels.argmax(x.data(), count), count / 2);
    }
  });
}

}  // namespace
}  // namespace flexgen::test
