#include "policy/planner/linear_program.hpp"

#include <gtest/gtest.h>

namespace flexgen::test {
namespace {

using Terms = std::vector<LinearProgram::Term>;

TEST(LinearProgram, FindsTheCorner) {
  LinearProgram lp;  // the most of 3x + 2y
  const int x = lp.add_variable(0, 3, -3);
  const int y = lp.add_variable(0, LinearProgram::infinity, -2);
  lp.add_row(-LinearProgram::infinity, Terms{{x, 1}, {y, 1}}, 4);
  lp.add_row(-LinearProgram::infinity, Terms{{x, 1}, {y, 3}}, 6);
  const auto values = lp.minimize();
  ASSERT_TRUE(values);
  EXPECT_NEAR(values->at(static_cast<std::size_t>(x)), 3, 1e-9);
  EXPECT_NEAR(values->at(static_cast<std::size_t>(y)), 1, 1e-9);
}

TEST(LinearProgram, KeepsEqualities) {
  LinearProgram lp;
  const int x = lp.add_variable(0, 10, 1);
  const int y = lp.add_variable(1, 10, 2);
  lp.add_row(7, Terms{{x, 1}, {y, 1}}, 7);
  const auto values = lp.minimize();
  ASSERT_TRUE(values);
  EXPECT_NEAR((*values)[0], 6, 1e-9);
  EXPECT_NEAR((*values)[1], 1, 1e-9);
}

TEST(LinearProgram, SaysWhenNothingKeepsAllBounds) {
  LinearProgram lp;
  const int x = lp.add_variable(0, 1, 1);
  lp.add_row(2, Terms{{x, 1}}, LinearProgram::infinity);
  EXPECT_FALSE(lp.minimize());
}

TEST(LinearProgram, SaysWhenNothingIsLeast) {
  LinearProgram lp;
  const int x = lp.add_variable(0, LinearProgram::infinity, -1);
  lp.add_row(0, Terms{{x, 1}}, LinearProgram::infinity);
  EXPECT_FALSE(lp.minimize());
}

}  // namespace
}  // namespace flexgen::test
