// Whole jobs whose rows ask for more than the likeliest tokens, against what their logits say: penalties and bans
// counted anew from the text, log-probabilities, alternatives, chance.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "tests/support/in_process_job.hpp"
#include "tests/support/scratch_place.hpp"
#include "tests/support/tiny_model.hpp"

namespace flexgen::test {
namespace {

using Ids = std::vector<std::int32_t>;

InProcessJob job_of(std::size_t num_rows, std::int32_t new_tokens, const ScratchPlace& scratch) {
  InProcessJob job;
  job.model = tiny_model();
  job.policy.micro_batch_size = 5;
  job.policy.num_micro_batches = 2;
  job.new_tokens = new_tokens;
  for (std::size_t r = 0; r < num_rows; ++r) {
    Ids& prompt = job.prompts.emplace_back();
    for (std::size_t t = 0; t < 2 + r * 5 % 11; ++t)
      prompt.push_back(static_cast<std::int32_t>((29 * r + 13 * t * t) % static_cast<std::size_t>(job.model.vocab)));
  }
  job.offload_dir = scratch.path();
  job.make_source = [](int) { return make_random_source(); };
  return job;
}

std::shared_ptr<const TokenRules> shared(TokenRules rules) {
  return std::make_shared<const TokenRules>(std::move(rules));
}

// The logits that the rules make of the model's, by counting in the whole text.
std::vector<double> changed(const std::vector<float>& logits, const TokenRules& rules, const Ids& prompt,
                            const Ids& made) {
  const SamplingOptions& sampling = rules.sampling;
  std::vector<double> changed(logits.begin(), logits.end());
  for (std::size_t token = 0; token < changed.size(); ++token) {
    const auto id = static_cast<std::int32_t>(token);
    const auto in_output = static_cast<double>(std::ranges::count(made, id));
    double& logit = changed[token];
    const auto penalty = static_cast<double>(sampling.repetition_penalty);
    if (in_output > 0 || std::ranges::count(prompt, id) > 0) logit = logit > 0 ? logit / penalty : logit * penalty;
    logit -= in_output * static_cast<double>(sampling.frequency_penalty);
    if (in_output > 0) logit -= static_cast<double>(sampling.presence_penalty);
    for (const TokenBias& one : sampling.logit_bias)
      if (one.token == id) logit += static_cast<double>(one.bias);
    if (std::ssize(made) < sampling.min_tokens && std::ranges::count(rules.end_tokens, id) > 0) logit = -1e300;
  }
  return changed;
}

TEST(SampledJob, PenaltiesBiasesAndBansActOnTheWholeText) {
  const ScratchPlace scratch;
  InProcessJob job = job_of(24, 12, scratch);
  for (std::size_t r = 0; r < job.prompts.size(); ++r) {
    TokenRules rules;
    rules.sampling.repetition_penalty = r % 3 == 0 ? 1.3F : 1.0F;
    rules.sampling.presence_penalty = r % 3 == 1 ? 0.02F : 0.0F;
    rules.sampling.frequency_penalty = r % 2 == 1 ? 0.01F : 0.0F;
    if (r % 4 == 2) rules.sampling.logit_bias = {{static_cast<std::int32_t>(r), 0.05F}, {60, -1}};
    rules.sampling.min_tokens = r % 2 == 0 ? 5 : 0;
    for (std::int32_t token = 0; token < 131; token += 2) rules.end_tokens.push_back(token);
    job.rules.push_back(shared(std::move(rules)));
  }
  const InProcessResult result = run_in_process(job);
  InProcessJob plain = job;
  plain.rules.clear();
  const InProcessResult likeliest = run_in_process(plain);
  std::size_t num_changed = 0;
  for (std::size_t r = 0; r < job.prompts.size(); ++r) {
    ASSERT_EQ(result.ids[r].size(), 12U);
    num_changed += result.ids[r] != likeliest.ids[r] ? 1 : 0;
    for (std::size_t t = 0; t < 12; ++t) {
      const Ids made(result.ids[r].begin(), result.ids[r].begin() + static_cast<std::ptrdiff_t>(t));
      const std::vector<double> logits = changed(result.logits[r][t], *job.rules[r], job.prompts[r], made);
      const auto chosen = static_cast<std::size_t>(result.ids[r][t]);
      EXPECT_NEAR(logits[chosen], std::ranges::max(logits), 1e-6) << "row " << r << ", token " << t;
    }
  }
  EXPECT_GE(num_changed, job.prompts.size() / 3) << "the rules must matter, or nothing was tested";
}

TEST(SampledJob, LogProbabilitiesAreThoseOfTheLogits) {
  const ScratchPlace scratch;
  InProcessJob job = job_of(13, 6, scratch);
  for (std::size_t r = 0; r < job.prompts.size(); ++r) {
    TokenRules rules;
    rules.sampling.temperature = r % 2 == 0 ? 0.7F : 0.0F;
    rules.sampling.logit_bias = {{3, 5}};  // no part of the model's own distribution
    rules.sampling.num_logprobs = rules.num_prompt_top = static_cast<std::int32_t>(r % 4);
    job.rules.push_back(shared(std::move(rules)));
  }
  const InProcessResult result = run_in_process(job);
  for (std::size_t r = 0; r < job.prompts.size(); ++r) {
    const std::size_t num_top = r % 4;
    ASSERT_EQ(result.scores[r].size(), 6U);
    ASSERT_EQ(result.top_tokens[r].size(), 6 * num_top);
    for (std::size_t t = 0; t < 6; ++t) {
      const std::vector<float>& logits = result.logits[r][t];
      double sum = 0;
      for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
      const auto expected = [&](std::int32_t token) {
        return static_cast<double>(logits[static_cast<std::size_t>(token)]) - std::log(sum);
      };
      EXPECT_NEAR(result.scores[r][t], expected(result.ids[r][t]), 1e-5);
      Ids order(logits.size());
      std::iota(order.begin(), order.end(), 0);
      std::ranges::stable_sort(order, std::ranges::greater(),
                               [&](std::int32_t token) { return logits[static_cast<std::size_t>(token)]; });
      for (std::size_t i = 0; i < num_top; ++i) {
        EXPECT_EQ(result.top_tokens[r][t * num_top + i], order[i]);
        EXPECT_NEAR(result.top_scores[r][t * num_top + i], expected(order[i]), 1e-5);
      }
    }
  }
}

// The prompt's tokens are scored, then tokens are drawn: both roads in one row, and in chunks.
TEST(SampledJob, ScoresOfAPromptStandBeforeThoseOfItsAnswer) {
  const ScratchPlace scratch;
  InProcessJob job = job_of(9, 3, scratch);
  job.scores = true;
  job.keep_logits = false;
  InProcessJob scored = job;
  const InProcessResult scores = run_in_process(scored);
  TokenRules rules;
  rules.sampling.temperature = 1;
  rules.sampling.num_logprobs = rules.num_prompt_top = 2;
  job.rules.assign(job.prompts.size(), shared(rules));
  for (const std::int32_t budget : {0, 5}) {
    job.policy.token_budget = budget;
    const InProcessResult both = run_in_process(job);
    for (std::size_t r = 0; r < job.prompts.size(); ++r) {
      const std::size_t of_prompt = job.prompts[r].size() - 1;
      ASSERT_EQ(both.scores[r].size(), of_prompt + 3);
      ASSERT_EQ(both.top_tokens[r].size(), 2 * (of_prompt + 3));
      for (std::size_t i = 0; i < of_prompt; ++i) {
        EXPECT_EQ(both.scores[r][i], scores.scores[r][i]) << "bit for bit those of a row that is only scored";
        EXPECT_GE(both.top_scores[r][2 * i], both.scores[r][i]);
        if (both.top_tokens[r][2 * i] == job.prompts[r][i + 1]) {
          EXPECT_EQ(both.top_scores[r][2 * i], both.scores[r][i]);
        }
      }
    }
  }
}

// A token of rows that differ in nothing but their draw.
TEST(SampledJob, ChanceIsThatOfTheLogits) {
  constexpr std::size_t num_rows = 2000;
  const ScratchPlace scratch;
  InProcessJob job = job_of(0, 1, scratch);
  job.policy.micro_batch_size = 100;
  job.prompts.assign(num_rows, {5, 6, 7});
  TokenRules rules;
  rules.sampling.temperature = 0.3F;  // of a model of small logits
  rules.sampling.seed = 11;
  job.rules.assign(num_rows, shared(rules));
  const InProcessResult result = run_in_process(job);
  std::vector<double> expected;
  for (const float logit : result.logits[0][0]) expected.push_back(std::exp(static_cast<double>(logit) / 0.3));
  const double sum = std::accumulate(expected.begin(), expected.end(), 0.0);
  std::vector<double> seen(expected.size());
  for (const Ids& ids : result.ids) ++seen[static_cast<std::size_t>(ids.at(0))];
  double chi_square = 0;
  for (std::size_t i = 0; i < seen.size(); ++i) {
    const double wanted = expected[i] / sum * num_rows;
    chi_square += (seen[i] - wanted) * (seen[i] - wanted) / wanted;
  }
  const auto degrees = static_cast<double>(seen.size() - 1);
  EXPECT_LT(std::abs(chi_square - degrees), 5 * std::sqrt(2 * degrees));
}

}  // namespace
}  // namespace flexgen::test
