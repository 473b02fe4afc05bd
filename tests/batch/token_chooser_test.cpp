// What rules come to, token by token: an oracle that counts anew from the whole history.
#include "batch/token_chooser.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <random>

namespace flexgen::test {
namespace {

using Ids = std::vector<std::int32_t>;
constexpr float banned = -std::numeric_limits<float>::infinity();

TokenChooser chooser_of(const TokenRules& rules, const Ids& prompt, std::uint32_t answer = 0) {
  return {std::make_shared<const TokenRules>(rules), prompt, answer};
}

// What changes a token, without those that change nothing.
std::map<std::int32_t, std::tuple<std::int32_t, std::int32_t, float>> changes(const RowChoice& choice) {
  std::map<std::int32_t, std::tuple<std::int32_t, std::int32_t, float>> by_token;
  for (const TokenAdjustment& one : choice.adjustments) {
    EXPECT_FALSE(by_token.contains(one.token)) << "token " << one.token << " twice";
    by_token[one.token] = {one.in_prompt, one.in_output, one.bias};
  }
  std::erase_if(by_token, [](const auto& one) { return one.second == std::tuple(0, 0, 0.0F); });
  return by_token;
}

TEST(TokenChooser, TheRulesNumbersAndTheDrawOfEachToken) {
  TokenRules rules;
  rules.sampling.temperature = 0.5F;
  rules.sampling.top_p = 0.9F;
  rules.sampling.top_k = 7;
  rules.sampling.min_p = 0.1F;
  rules.sampling.seed = 77;
  rules.num_prompt_top = 3;
  TokenChooser chooser = chooser_of(rules, {1, 2}, 5);
  for (std::uint64_t t = 0; t < 3; ++t) {
    const RowChoice choice = chooser.next(4);
    EXPECT_EQ(choice.row, 4);
    EXPECT_EQ(choice.num_prompt_top, 3);
    EXPECT_FALSE(choice.wants_score);
    EXPECT_EQ(choice.how.temperature, 0.5F);
    EXPECT_EQ(choice.how.top_p, 0.9F);
    EXPECT_EQ(choice.how.top_k, 7);
    EXPECT_EQ(choice.how.min_p, 0.1F);
    EXPECT_EQ(choice.how.seed, 77U);
    EXPECT_EQ(choice.how.num_top, 0);
    EXPECT_EQ(choice.how.draw, (std::uint64_t{5} << 32) + t) << "of its own for each answer and token";
    EXPECT_TRUE(choice.adjustments.empty()) << "nothing looks back";
    chooser.take(9);
  }
  rules.sampling.num_logprobs = 2;
  EXPECT_TRUE(chooser_of(rules, {1}).next(0).wants_score);
  EXPECT_EQ(chooser_of(rules, {1}).next(0).how.num_top, 2);
}

TEST(TokenChooser, CountsWhatPenaltiesLookAt) {
  std::mt19937 random(3);
  const Ids prompt{4, 4, 9, 1};
  for (const bool of_prompt : {false, true}) {
    TokenRules rules;
    if (of_prompt) rules.sampling.repetition_penalty = 1.2F;
    else rules.sampling.frequency_penalty = 0.5F;
    TokenChooser chooser = chooser_of(rules, prompt);
    Ids made;
    for (int t = 0; t < 40; ++t) {
      std::map<std::int32_t, std::tuple<std::int32_t, std::int32_t, float>> expected;
      for (std::int32_t token = 0; token < 12; ++token) {
        const auto in_prompt = of_prompt ? static_cast<std::int32_t>(std::ranges::count(prompt, token)) : 0;
        const auto in_output = static_cast<std::int32_t>(std::ranges::count(made, token));
        if (in_prompt + in_output > 0) expected[token] = {in_prompt, in_output, 0.0F};
      }
      ASSERT_EQ(changes(chooser.next(0)), expected) << "token " << t;
      made.push_back(static_cast<std::int32_t>(random() % 12));
      chooser.take(made.back());
    }
  }
}

TEST(TokenChooser, NoEndBeforeTheLeastNumberOfTokens) {
  TokenRules rules;
  rules.sampling.min_tokens = 2;
  rules.sampling.logit_bias = {{5, 1.5F}, {8, -2.0F}};
  rules.end_tokens = {2, 8};
  TokenChooser chooser = chooser_of(rules, {1});
  for (int t = 0; t < 2; ++t) {
    const auto now = changes(chooser.next(0));
    EXPECT_EQ(std::get<2>(now.at(2)), banned);
    EXPECT_EQ(std::get<2>(now.at(8)), banned);
    EXPECT_EQ(std::get<2>(now.at(5)), 1.5F);
    chooser.take(5);
  }
  const auto later = changes(chooser.next(0));
  EXPECT_FALSE(later.contains(2));
  EXPECT_EQ(std::get<2>(later.at(8)), -2.0F) << "its own bias again";
  EXPECT_EQ(std::get<2>(later.at(5)), 1.5F);
}

// Memory is planned by it: no sequence may ever have more.
TEST(TokenChooser, NeverHasMoreAdjustmentsThanWereCounted) {
  std::mt19937 random(5);
  for (int i = 0; i < 200; ++i) {
    const auto chance = [&] { return random() % 2 == 0; };
    TokenRules rules;
    if (chance()) rules.sampling.repetition_penalty = 1.1F;
    if (chance()) rules.sampling.presence_penalty = 1;
    if (chance()) rules.sampling.logit_bias = {{90, 1}, {91, 1}};
    if (chance()) rules.sampling.min_tokens = 3;
    rules.end_tokens = {80, 81};
    Ids prompt(1 + random() % 5);
    for (std::int32_t& token : prompt) token = static_cast<std::int32_t>(random() % 60);
    const int num_new = 1 + static_cast<int>(random() % 5);
    SamplingShape shape;
    count_rules(rules, std::ssize(prompt), num_new, shape);
    EXPECT_TRUE(shape.is_wanted);
    TokenChooser chooser = chooser_of(rules, prompt);
    for (int t = 0; t < num_new; ++t) {
      EXPECT_LE(std::ssize(chooser.next(0).adjustments), shape.max_adjustments);
      chooser.take(static_cast<std::int32_t>(random() % 60));
    }
  }
}

TEST(TokenChooser, CountsTheLargestOfAllRows) {
  SamplingShape shape;
  TokenRules rules;
  rules.sampling.num_logprobs = 4;
  count_rules(rules, 100, 10, shape);
  EXPECT_EQ(shape.max_top, 4);
  EXPECT_EQ(shape.max_adjustments, 0);
  rules.sampling = SamplingOptions();
  rules.sampling.repetition_penalty = 2;
  rules.num_prompt_top = 6;
  count_rules(rules, 100, 10, shape);
  EXPECT_EQ(shape.max_top, 6);
  EXPECT_EQ(shape.max_adjustments, 110);
  rules.sampling = SamplingOptions();
  rules.sampling.presence_penalty = 2;
  count_rules(rules, 50, 10, shape);
  EXPECT_EQ(shape.max_adjustments, 110);
}

}  // namespace
}  // namespace flexgen::test
