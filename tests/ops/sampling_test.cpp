#include "ops/sampling.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/device_fixture.hpp"

namespace flexgen::test {
namespace {

class ArgmaxTest : public OnDevice {
 protected:
  std::vector<std::int32_t> run(HostMatrix& logits) {
    const std::vector<std::int32_t> poison(static_cast<std::size_t>(logits.rows()), -77);
    std::int32_t* token = upload(poison);
    argmax_rows(context(), upload(logits), token);
    std::vector<std::int32_t> result = poison;
    download(result.data(), reinterpret_cast<std::byte*>(token), result.size() * sizeof(std::int32_t));
    return result;
  }
  static std::vector<std::int32_t> reference(HostMatrix& logits) {
    std::vector<std::int32_t> token(static_cast<std::size_t>(logits.rows()), -77);
    argmax_rows_reference(logits.view(), token.data());
    return token;
  }
};

TEST_P(ArgmaxTest, MatchesTheReference) {
  for (const std::int64_t vocab : {1, 2, 15, 16, 17, 1000, 50272}) {
    HostMatrix logits = HostMatrix::random(5, vocab, DType::float32, static_cast<std::uint32_t>(vocab), 3);
    EXPECT_EQ(run(logits), reference(logits)) << vocab;
  }
}

TEST_P(ArgmaxTest, LowestIndexAmongEquals) {
  HostMatrix logits(4, 100, DType::float32);
  logits.fill(-2.0F);
  logits.set(1, 41, 3.0F), logits.set(1, 40, 3.0F), logits.set(1, 99, 3.0F);
  logits.set(2, 99, 0.0F), logits.set(2, 98, -0.0F);
  for (int c = 0; c < 100; ++c) logits.set(3, c, -std::numeric_limits<float>::infinity());
  EXPECT_EQ(run(logits), (std::vector<std::int32_t>{0, 40, 98, 0}));
  EXPECT_EQ(reference(logits), (std::vector<std::int32_t>{0, 40, 98, 0}));
}

TEST_P(ArgmaxTest, ANaNAnywhereGivesMinusOne) {
  for (const int at : {0, 1, 15, 16, 50, 98}) {
    HostMatrix logits = HostMatrix::random(3, 99, DType::float32, 5);
    logits.set(1, at, std::numeric_limits<float>::quiet_NaN());
    logits.set(1, 97, std::numeric_limits<float>::infinity());
    const std::vector<std::int32_t> token = run(logits);
    EXPECT_EQ(token, reference(logits)) << at;
    EXPECT_EQ(token[1], -1) << at;
    EXPECT_GE(token[0], 0);
  }
}

// Of a row that has overflowed no logit can be trusted; one of minus infinity is a token that is ruled out.
TEST_P(ArgmaxTest, PlusInfinityGivesMinusOne) {
  for (const int at : {0, 1, 15, 16, 50, 98}) {
    HostMatrix logits = HostMatrix::random(3, 99, DType::float32, 5);
    logits.set(1, at, std::numeric_limits<float>::infinity());
    logits.set(2, at, -std::numeric_limits<float>::infinity());
    const std::vector<std::int32_t> token = run(logits);
    EXPECT_EQ(token, reference(logits)) << at;
    EXPECT_EQ(token[1], -1) << at;
    EXPECT_GE(token[2], 0) << at;
  }
}

class LogProbabilitiesTest : public OnDevice {
 protected:
  using Scores = std::vector<float>;

  Scores run(HostMatrix& logits, const std::vector<std::int32_t>& targets) {
    const Scores poison(targets.size(), -77.0F);
    float* score = upload(poison);
    log_probabilities(context(), upload(logits), upload(targets), score);
    Scores result = poison;
    download(result.data(), reinterpret_cast<std::byte*>(score), result.size() * sizeof(float));
    return result;
  }
  static Scores reference(HostMatrix& logits, const std::vector<std::int32_t>& targets) {
    Scores score(targets.size(), -77.0F);
    log_probabilities_reference(logits.view(), targets.data(), score.data());
    return score;
  }
  void expect_reference(HostMatrix& logits, const std::vector<std::int32_t>& targets, float tolerance = 2e-5F) {
    const Scores scores = run(logits, targets);
    const Scores expected = reference(logits, targets);
    for (std::size_t i = 0; i < scores.size(); ++i)
      EXPECT_NEAR(scores[i], expected[i], tolerance) << "row " << i << " of " << logits.cols();
  }
};

TEST_P(LogProbabilitiesTest, MatchesTheReference) {
  for (const std::int32_t vocab : {1, 2, 15, 16, 17, 1000, 50272}) {
    HostMatrix logits = HostMatrix::random(5, vocab, DType::float32, static_cast<std::uint32_t>(vocab), 3);
    expect_reference(logits, {0, vocab - 1, vocab / 2, -1, vocab / 3});
  }
}

TEST_P(LogProbabilitiesTest, ByHand) {
  HostMatrix logits(3, 4, DType::float32);
  logits.fill(0.0F);
  logits.set(1, 2, std::log(5.0F));
  const Scores scores = run(logits, {3, 2, -1});
  EXPECT_NEAR(scores[0], std::log(0.25F), 1e-6F);
  EXPECT_NEAR(scores[1], std::log(5.0F / 8.0F), 1e-6F);
  EXPECT_EQ(scores[2], 0.0F);
}

// Neither large logits nor large differences overflow, and a logit of minus infinity takes no part.
TEST_P(LogProbabilitiesTest, LargeLogits) {
  HostMatrix logits(4, 100, DType::float32);
  logits.fill(1000.0F);
  for (int c = 0; c < 100; ++c) logits.set(1, c, -1000.0F);
  logits.set(2, 7, 2000.0F);
  for (int c = 1; c < 100; ++c) logits.set(3, c, -std::numeric_limits<float>::infinity());
  expect_reference(logits, {1, 2, 8, 0}, 2e-4F);
  EXPECT_NEAR(run(logits, {1, 2, 8, 0})[0], -std::log(100.0F), 1e-4F);
}

FLEXGEN_ON_EVERY_DEVICE(ArgmaxTest);
FLEXGEN_ON_EVERY_DEVICE(LogProbabilitiesTest);

}  // namespace
}  // namespace flexgen::test
