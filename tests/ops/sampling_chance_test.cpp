// How often sample_rows chooses which token, against exact probabilities.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/ops/sampling_rows_case.hpp"

namespace flexgen::test {
namespace {

using SamplingChanceTest = OnSampledRows;

/// The distribution from which a row draws, in double precision and straight from the definition.
std::vector<double> exact_probabilities(std::vector<double> logit, const SampleRow& row,
                                        const std::vector<TokenAdjustment>& adjustments = {}) {
  for (const TokenAdjustment& one : adjustments) {
    double& value = logit[static_cast<std::size_t>(one.token)];
    const double penalty = row.repetition_penalty;
    if (one.in_prompt + one.in_output > 0) value = value > 0 ? value / penalty : value * penalty;
    value -= static_cast<double>(row.frequency_penalty) * one.in_output;
    if (one.in_output > 0) value -= static_cast<double>(row.presence_penalty);
    value += static_cast<double>(one.bias);
  }
  std::vector<std::size_t> order(logit.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return logit[a] > logit[b]; });
  std::vector<double> p(logit.size(), 0.0);
  double sum = 0;
  const std::size_t top_k =
      row.top_k > 0 ? std::min<std::size_t>(static_cast<std::size_t>(row.top_k), p.size()) : p.size();
  for (std::size_t i = 0; i < top_k; ++i)
    sum += p[order[i]] = std::exp((logit[order[i]] - logit[order[0]]) / static_cast<double>(row.temperature));
  double before = 0;
  for (std::size_t i = 0; i < top_k; ++i) {
    const double one = p[order[i]];
    const bool is_kept = before < static_cast<double>(row.top_p) * sum && one >= static_cast<double>(row.min_p);
    before += one;
    if (!is_kept) p[order[i]] = 0;
  }
  sum = 0;
  for (const double one : p) sum += one;
  for (double& one : p) one /= sum;
  return p;
}

/// Chi-square of the tokens less its expectation, in its standard deviations.
double deviation(const Tokens& tokens, const std::vector<double>& p) {
  std::vector<int> count(p.size(), 0);
  for (const std::int32_t token : tokens) ++count.at(static_cast<std::size_t>(token));
  double chi_square = 0;
  int freedom = -1;
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double expected = p[i] * static_cast<double>(tokens.size());
    if (expected == 0) {
      EXPECT_EQ(count[i], 0) << "token " << i << " is ruled out";
      continue;
    }
    chi_square += (count[i] - expected) * (count[i] - expected) / expected;
    ++freedom;
  }
  return freedom == 0 ? 0 : (chi_square - freedom) / std::sqrt(2.0 * freedom);
}

std::vector<float> some_logits() {
  std::vector<float> logits;
  for (int i = 0; i < 40; ++i) logits.push_back(static_cast<float>((i * 17) % 40) * 0.1F - 1.0F);
  return logits;
}

// Fixed seeds: the figures are the same in every run. That of a right sampler is beyond 4 once in some ten thousand.
TEST_P(SamplingChanceTest, TokensComeAsOftenAsTheyShould) {
  constexpr std::int64_t kDraws = 20000;
  struct Case {
    const char* name;
    SampleRow row;
    std::vector<TokenAdjustment> adjustments;
  };
  std::vector<Case> cases(7, {"temperature 1", at_temperature(1.0F, 11), {}});
  cases[1].name = "temperature 0.5", cases[1].row.temperature = 0.5F;
  cases[2].name = "top_k", cases[2].row.top_k = 7;
  cases[3].name = "top_p", cases[3].row.top_p = 0.63F;
  cases[4].name = "min_p", cases[4].row.min_p = 0.21F;
  cases[5].name = "penalties, biases and a ban";
  cases[5].row.repetition_penalty = 1.4F, cases[5].row.frequency_penalty = 0.3F, cases[5].row.presence_penalty = -0.7F;
  cases[5].adjustments = {{0, 1, 0, 0.0F, 0}, {1, 0, 1, 0.0F, 0}, {7, 2, 3, 1.0F, 0}, {9, 0, 0, 2.5F, 0}, ban(39)};
  cases[6].name = "all limits", cases[6].row.top_k = 20, cases[6].row.top_p = 0.9F, cases[6].row.min_p = 0.3F;
  const std::vector<float> logits = some_logits();
  for (const Case& one : cases) {
    const std::vector<double> p = exact_probabilities({logits.begin(), logits.end()}, one.row, one.adjustments);
    for (const bool by_seed : {false, true}) {
      Sampling work(same_rows(kDraws, logits), one.row);
      for (std::size_t r = 0; r < work.rows.size(); ++r) {
        (by_seed ? work.rows[r].seed : work.rows[r].draw) = r;
        work.adjust(r, one.adjustments);
      }
      run(work);
      EXPECT_LT(deviation(work.token, p), 4.0) << one.name << (by_seed ? ", seeds" : ", draws");
    }
  }
}

// The figure above tells samplers apart that differ by little.
TEST_P(SamplingChanceTest, TokensOfAnotherTemperatureAreTold) {
  Sampling work(same_rows(20000, some_logits()), at_temperature(1.0F, 11));
  for (std::size_t r = 0; r < work.rows.size(); ++r) work.rows[r].draw = r;
  run(work);
  const std::vector<float> logits = some_logits();
  EXPECT_GT(deviation(work.token, exact_probabilities({logits.begin(), logits.end()}, at_temperature(0.9F))), 10.0);
}

FLEXGEN_ON_EVERY_DEVICE(SamplingChanceTest);

}  // namespace
}  // namespace flexgen::test
