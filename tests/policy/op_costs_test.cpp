// Rates between and beyond the sizes that were measured, and what a profile gives a rank.
#include "policy/op_costs.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace flexgen::test {
namespace {

TEST(RateCurve, InterpolatesInTheLogarithmsOfBoth) {
  RateCurve curve;
  EXPECT_EQ(curve.at(4), 0);
  curve.add(64, 8e9);
  curve.add(4, 2e9);
  EXPECT_NEAR(curve.at(4), 2e9, 1);
  EXPECT_NEAR(curve.at(16), 4e9, 1);
  EXPECT_NEAR(curve.at(1), 2e9, 1) << "beyond the ends the last one holds";
  EXPECT_NEAR(curve.at(1000), 8e9, 1);
  curve.add(16, 0);  // not measured
  EXPECT_NEAR(curve.at(16), 4e9, 1);
}

TEST(RateTable, InterpolatesBetweenCurvesToo) {
  RateTable table;
  EXPECT_EQ(table.at(1, 1), 0);
  table.add(8, 1024, 1e9);
  table.add(8, 4096, 4e9);
  table.add(32, 4096, 8e9);
  EXPECT_NEAR(table.at(8, 2048), 2e9, 1);
  EXPECT_NEAR(table.at(16, 4096), 4e9 * std::sqrt(2.0), 1e3);
  EXPECT_NEAR(table.at(8, 100), 1e9, 1);
  EXPECT_NEAR(table.at(100, 9000), 8e9, 1);
}

Policy policy_of(DType dtype, int weight_bits, int cache_bits) {
  Policy policy;
  policy.dtype = dtype;
  policy.weight_format.bits = weight_bits;
  policy.cache_format.bits = cache_bits;
  return policy;
}

TEST(OpCosts, AreThoseOfThePolicysTypes) {
  OpRates ops;
  ops.products = {
      {DType::float32, 0, 8, 1024, 1e10}, {DType::float32, 4, 8, 1024, 2e10}, {DType::bfloat16, 0, 8, 1024, 3e10}};
  ops.cache_reads = {{DType::float32, 0, 512, 5e9}, {DType::float32, 4, 512, 6e9}};
  const OpCosts plain = op_costs(ops, policy_of(DType::float32, 0, 0), 1);
  EXPECT_NEAR(plain.products({}).at(8, 1024), 1e10, 10);
  EXPECT_NEAR(plain.products({4, 64}).at(8, 1024), 2e10, 10);
  EXPECT_NEAR(plain.products({8, 64}).at(8, 1024), 1e10, 10) << "not measured: as plain ones";
  EXPECT_NEAR(plain.cache_reads.at(512), 5e9, 10);
  const OpCosts half = op_costs(ops, policy_of(DType::float32, 4, 4), 0.5);
  EXPECT_NEAR(half.products({4, 64}).at(8, 1024), 1e10, 10) << "two ranks share the processors";
  EXPECT_NEAR(half.cache_reads.at(512), 3e9, 10);
  EXPECT_NEAR(op_costs(ops, policy_of(DType::bfloat16, 0, 0), 1).products({}).at(8, 1024), 3e10, 10);
}

TEST(StageRates, OfARankOfTwoOnAMachine) {
  HardwareProfile profile;
  EXPECT_EQ(stage_rates(profile, policy_of(DType::float32, 0, 0), false, MachineShare::even(2)), nullptr)
      << "an older profile";
  profile.memory.ops.emplace().products = {{DType::float32, 0, 8, 1024, 1e10}};
  const auto rates = stage_rates(profile, policy_of(DType::float32, 0, 0), false, MachineShare::even(2));
  EXPECT_NEAR(rates->device.products({}).at(8, 1024), 5e9, 10);
  const auto beside_gpu = stage_rates(profile, policy_of(DType::float32, 0, 0), true, {});
  EXPECT_TRUE(beside_gpu->device.plain_products.empty());
  EXPECT_NEAR(beside_gpu->host.products({}).at(8, 1024), 1e10, 10);
}

}  // namespace
}  // namespace flexgen::test
