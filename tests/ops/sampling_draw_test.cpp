#include "ops/sampling_draw.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <vector>

namespace flexgen::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The known answers that come with Random123, the authors' own code.
TEST(SamplingDraw, PhiloxGivesItsKnownAnswers) {
  const auto words = [](PhiloxBlock counter, std::uint32_t key0, std::uint32_t key1) {
    const PhiloxBlock block = philox4x32_10(counter, key0, key1);
    return std::vector<std::uint32_t>(block.word, block.word + 4);
  };
  using Words = std::vector<std::uint32_t>;
  EXPECT_EQ(words({{0, 0, 0, 0}}, 0, 0), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const std::uint32_t f = 0xffffffff;
  EXPECT_EQ(words({{f, f, f, f}}, f, f), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(words({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(SamplingDraw, DrawsDependOnBothHalvesOfSeedAndIndex) {
  const std::uint64_t total = std::uint64_t{1} << 60;
  std::set<std::uint64_t> drawn;
  for (const std::uint64_t bit : {0, 1, 31, 32, 63}) {
    drawn.insert(draw_below(total, std::uint64_t{1} << bit, 0));
    drawn.insert(draw_below(total, 0, std::uint64_t{1} << bit));
  }
  EXPECT_EQ(drawn.size(), 10U);
  EXPECT_LT(*drawn.rbegin(), total);
  EXPECT_EQ(draw_below(1, 7, 7), 0U);
  // Texts that a seed gives stay what they are: the upper bits of the first two words.
  EXPECT_EQ(draw_below(std::uint64_t{1} << 63, 0, 0), std::uint64_t{0xe169c58d6627e8d5} >> 1);
}

TEST(SamplingDraw, AdjustmentsByHand) {
  SampleRow row;
  row.repetition_penalty = 2.0F, row.frequency_penalty = 0.25F, row.presence_penalty = 1.0F;
  const auto adjust = [&](float logit, int in_prompt, int in_output, float bias) {
    return adjusted(logit, row, {0, in_prompt, in_output, bias, 0.0F});
  };
  EXPECT_EQ(adjust(3.0F, 0, 0, 0.0F), 3.0F);
  EXPECT_EQ(adjust(3.0F, 0, 0, -1.5F), 1.5F);
  EXPECT_EQ(adjust(3.0F, 5, 0, 0.0F), 1.5F);  // of the prompt, repetition alone counts
  EXPECT_EQ(adjust(-3.0F, 1, 0, 0.0F), -6.0F);
  EXPECT_EQ(adjust(3.0F, 0, 1, 0.0F), 0.25F);
  EXPECT_EQ(adjust(3.0F, 1, 3, 0.5F), 0.25F);
  EXPECT_EQ(adjust(3.0F, 1, 3, -kInfinity), -kInfinity);
}

TEST(SamplingDraw, WeightsAreExponentials) {
  EXPECT_EQ(token_weight(3.5F, 3.5F, 0.7F), 1.0F);
  EXPECT_EQ(whole_weight(1.0F), std::uint64_t{1} << kWeightBits);
  for (float x = 0.0F; x < 29.9F; x += 0.0137F) {
    const double expected = std::exp(-static_cast<double>(x));
    EXPECT_NEAR(token_weight(-x, 0.0F, 1.0F), expected, 3e-7 * expected) << x;
  }
  EXPECT_NEAR(token_weight(1.0F, 2.0F, 0.5F), std::exp(-2.0), 1e-7);
  EXPECT_EQ(token_weight(-1.0F, 0.0F, 1e-30F), 0.0F);
  EXPECT_EQ(token_weight(-kInfinity, 0.0F, 1.0F), 0.0F);
  EXPECT_EQ(token_weight(0.0F, 0.0F, 1e-45F), 1.0F);
}

TEST(SamplingDraw, KeysOrderAsLogitsDo) {
  const std::vector<float> rising = {-kInfinity, -1e38F, -2.0F, -1.0F, -1e-40F, 0.0F, 1e-40F, 1.0F, 2.0F, 1e38F};
  for (std::size_t i = 1; i < rising.size(); ++i) EXPECT_LT(order_key(rising[i - 1]), order_key(rising[i])) << i;
  EXPECT_EQ(order_key(-0.0F), order_key(0.0F));
}

}  // namespace
}  // namespace flexgen::test
