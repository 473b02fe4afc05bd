#include "ops/softmax_merge.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace flexgen::test {
namespace {

struct Shrink {
  float operator()(float from, float to) const { return std::exp(from - to); }
};

/// A softmax over `score`, one value each, in one step per score.
struct Part {
  SoftmaxState state = nothing_seen();
  float sum = 0.0F;

  void take(float score, float value) {
    sum *= raise_largest(state, std::fmax(state.largest, score), Shrink{});
    const float weight = std::exp(score - state.largest);
    state.weight += weight;
    sum += weight * value;
  }
};

struct Expected {
  double weight = 0.0, mean = 0.0;
};
Expected whole_softmax(const std::vector<float>& score, const std::vector<float>& value, float largest) {
  Expected result;
  for (std::size_t i = 0; i < score.size(); ++i) {
    const double weight = std::exp(static_cast<double>(score[i]) - largest);
    result.weight += weight;
    result.mean += weight * value[i];
  }
  result.mean /= result.weight;
  return result;
}

TEST(SoftmaxMerge, PartsComeToTheWhole) {
  std::mt19937 generator(3);
  std::uniform_real_distribution<float> uniform(-20.0F, 20.0F);
  std::vector<float> score(90), value(90);
  for (float& x : score) x = uniform(generator);
  for (float& x : value) x = uniform(generator);
  Part parts[4];
  for (std::size_t i = 0; i < score.size(); ++i) parts[i % 3].take(score[i], value[i]);  // the last one sees nothing
  SoftmaxState states[4];
  for (int i = 0; i < 4; ++i) states[i] = parts[i].state;
  float factor[4];
  const SoftmaxState all = softmax_merge(states, 4, factor, Shrink{});
  EXPECT_EQ(all.largest, *std::max_element(score.begin(), score.end()));
  const Expected expected = whole_softmax(score, value, all.largest);
  EXPECT_NEAR(all.weight, expected.weight, 1e-5 * expected.weight);
  float sum = 0.0F;
  for (int i = 0; i < 4; ++i) sum += parts[i].sum * factor[i];
  EXPECT_NEAR(sum / all.weight, expected.mean, 1e-4);
}

TEST(SoftmaxMerge, OnlyTheFirstPartsCount) {
  const SoftmaxState states[3] = {{1.0F, 2.0F}, {0.0F, 3.0F}, {50.0F, 7.0F}};
  float factor[3];
  const SoftmaxState all = softmax_merge(states, 2, factor, Shrink{});
  EXPECT_EQ(all.largest, 1.0F);
  EXPECT_FLOAT_EQ(all.weight, 2.0F + 3.0F * std::exp(-1.0F));
}

TEST(SoftmaxMerge, APartOfOneIsItself) {
  const SoftmaxState states[1] = {{-3.0F, 1.25F}};
  float factor[1];
  const SoftmaxState all = softmax_merge(states, 1, factor, Shrink{});
  EXPECT_EQ(all.largest, -3.0F);
  EXPECT_EQ(all.weight, 1.25F);
  EXPECT_EQ(factor[0], 1.0F);
}

TEST(SoftmaxMerge, PartsThatSawNothingStayEmpty) {
  const SoftmaxState states[2] = {nothing_seen(), nothing_seen()};
  float factor[2];
  const SoftmaxState all = softmax_merge(states, 2, factor, Shrink{});
  EXPECT_EQ(all.weight, 0.0F);
  EXPECT_EQ(all.largest, kNoScore);
}

}  // namespace
}  // namespace flexgen::test
