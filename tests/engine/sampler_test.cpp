// Tokens and scores of known logits.
#include "engine/sampler.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/device_fixture.hpp"

namespace flexgen::test {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr std::int32_t no_token = -77;  // what stands there before
constexpr float no_score = -77.0F;

class SamplerTest : public OnDevice {
 protected:
  struct Sampled {
    std::vector<std::int32_t> tokens;
    std::vector<float> scores;
  };
  // No targets: nothing is scored.
  Sampled run(const std::vector<std::vector<float>>& logits, const std::vector<std::int32_t>& targets = {}) {
    HostMatrix matrix(static_cast<std::int64_t>(logits.size()), static_cast<std::int64_t>(logits[0].size()),
                      DType::float32);
    for (std::size_t r = 0; r < logits.size(); ++r)
      for (std::size_t c = 0; c < logits[r].size(); ++c)
        matrix.set(static_cast<std::int64_t>(r), static_cast<std::int64_t>(c), logits[r][c]);
    Sampled sampled{std::vector(logits.size(), no_token), std::vector(logits.size(), no_score)};
    SampleArgs args{upload(matrix), {upload(sampled.tokens), upload(sampled.scores), nullptr, nullptr}};
    if (!targets.empty()) args.targets = upload(targets);
    sample(context(), args);
    download(sampled.tokens.data(), reinterpret_cast<std::byte*>(args.out.tokens),
             logits.size() * sizeof(std::int32_t));
    download(sampled.scores.data(), reinterpret_cast<std::byte*>(args.out.scores), logits.size() * sizeof(float));
    return sampled;
  }
};

TEST_P(SamplerTest, TheLargestLogitOrTheFirstOfSeveral) {
  const Sampled sampled = run({{0, 1, 5, 2}, {3, 3, 3, 3}, {-4, -1, -1, -2}, {0, -0.0F, -1, -1}});
  EXPECT_EQ(sampled.tokens, (std::vector<std::int32_t>{2, 0, 1, 0}));
}

TEST_P(SamplerTest, MinusInfinityRulesATokenOut) {
  const Sampled sampled = run({{-infinity, -9, -infinity, -10}, {-infinity, -infinity, -infinity, 2}});
  EXPECT_EQ(sampled.tokens, (std::vector<std::int32_t>{1, 3}));
}

TEST_P(SamplerTest, OutputsThatAreNoNumbersHaveNoToken) {
  const Sampled sampled = run({{0, not_a_number, 5, 2}, {1, 2, 3, 0}, {0, 1, infinity, 2}, {9, 2, 3, not_a_number}});
  EXPECT_EQ(sampled.tokens, (std::vector<std::int32_t>{-1, 2, -1, -1}));
}

TEST_P(SamplerTest, WithoutTargetsNothingIsScored) {
  EXPECT_EQ(run({{0, 1, 5, 2}, {3, 3, 3, 3}}).scores, (std::vector<float>{no_score, no_score}));
}

TEST_P(SamplerTest, ScoresAreOfTheTargetsAlone) {
  const Sampled sampled = run({{0, 0, 0, 0}, {1, 2, 3, 4}, {-infinity, 0, 0, -infinity}}, {3, -1, 2});
  EXPECT_EQ(sampled.tokens, (std::vector<std::int32_t>{0, 3, 1})) << "chosen whatever is scored";
  EXPECT_NEAR(sampled.scores[0], -std::log(4.0F), 1e-6F);
  EXPECT_EQ(sampled.scores[1], 0.0F) << "no target";
  EXPECT_NEAR(sampled.scores[2], -std::log(2.0F), 1e-6F);
}

FLEXGEN_ON_EVERY_DEVICE(SamplerTest);

}  // namespace
}  // namespace flexgen::test
