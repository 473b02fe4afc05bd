#include "spec/policy.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "base/error.hpp"

namespace flexgen::test {
namespace {

TEST(Placement, SixNumbersInFlexGensOrder) {
  const Placement at = make_placement({20, 80, 0, 100, 5, 15});
  EXPECT_EQ(at.weights, (Share{20, 80}));
  EXPECT_EQ(at.cache, (Share{0, 100}));
  EXPECT_EQ(at.hidden, (Share{5, 15}));
  EXPECT_DOUBLE_EQ(at.hidden.gpu(), 0.05);
  EXPECT_DOUBLE_EQ(at.hidden.dram(), 0.15);
  EXPECT_DOUBLE_EQ(at.hidden.ssd(), 0.8);
  EXPECT_EQ(at.of(TensorClass::weights), at.weights);
  EXPECT_EQ(at.of(TensorClass::cache), at.cache);
  EXPECT_EQ(at.of(TensorClass::hidden), at.hidden);
}

TEST(Placement, ThirdsThatAddUpToAHundredAreFine) {
  EXPECT_NO_THROW(make_placement({33.3, 66.7, 100.0 / 3, 200.0 / 3, 14.1, 85.9}));
}

TEST(Placement, ImpossibleSharesAreRefused) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  for (std::size_t at = 0; at < 6; ++at)
    for (const double bad : {-1.0, -1e-3, 100.1, nan, infinity, -infinity}) {
      std::array<double, 6> percent{};
      percent[at] = bad;
      EXPECT_THROW(make_placement(percent), UserError) << at << " " << bad;
    }
  try {
    make_placement({0, 0, 60, 41, 0, 0});
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    EXPECT_NE(std::string(error.what()).find("60"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("41"), std::string::npos) << error.what();
  }
}

TEST(Policy, DefaultsAndBlockRows) {
  Policy policy;
  EXPECT_EQ(policy.block_rows(), 1);
  EXPECT_EQ(policy.placement, make_placement({100, 0, 100, 0, 100, 0}));
  policy.micro_batch_size = 1 << 20;
  policy.num_micro_batches = 1 << 12;
  EXPECT_EQ(policy.block_rows(), 1LL << 32);
}

TEST(Policy, FlagsNameOnlyWhatDiffersFromTheDefault) {
  Policy policy;
  policy.placement = make_placement({12.5, 87.5, 0, 99.9, 100, 0});
  policy.micro_batch_size = 48;
  policy.num_micro_batches = 3;
  policy.dtype = DType::bfloat16;
  EXPECT_EQ(to_flags(policy),
            "--percent 12.5 87.5 0 99.9 100 0 --gpu-batch-size 48 --num-gpu-batches 3 --dtype bfloat16");
  policy.overlap = policy.separate_layers = policy.pin_weights = false;
  EXPECT_EQ(to_flags(policy),
            "--percent 12.5 87.5 0 99.9 100 0 --gpu-batch-size 48 --num-gpu-batches 3 --dtype bfloat16 --overlap false "
            "--sep-layer false --pin-weight false");
}

TEST(TensorClasses, HaveNames) {
  EXPECT_EQ(tensor_class_name(TensorClass::weights), "weights");
  EXPECT_EQ(tensor_class_name(TensorClass::cache), "cache");
  EXPECT_EQ(tensor_class_name(TensorClass::hidden), "hidden");
}

}  // namespace
}  // namespace flexgen::test
