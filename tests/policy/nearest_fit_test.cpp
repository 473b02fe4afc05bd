// What is offered in the place of a policy that does not fit.
#include <gtest/gtest.h>

#include <map>
#include <sstream>

#include "base/error.hpp"
#include "policy/memory_plan.hpp"
#include "tests/policy/plan_cases.hpp"

namespace flexgen::test {
namespace {

constexpr std::uint64_t plenty = 1ULL << 50;

bool fits(const PlanInput& input, const Budgets& budgets) {
  return explain_misfit(plan_memory(input), budgets).empty();
}

// The policy that a message ends with, read as a user would paste it: words that begin with -- and what follows them.
Policy pasted(const std::string& message, const Policy& base) {
  const std::string mark = "The nearest one that fits: ";
  const auto begin = message.find(mark);
  EXPECT_NE(begin, std::string::npos) << message;
  std::istringstream words(message.substr(begin + mark.size()));
  std::map<std::string, std::vector<std::string>> options;
  std::string option;
  for (std::string word; words >> word;)
    if (word.starts_with("--")) option = word;
    else options[option].push_back(word);
  std::array<double, 6> percent{};
  EXPECT_EQ(options.at("--percent").size(), percent.size()) << message;
  for (std::size_t i = 0; i < percent.size(); ++i) percent[i] = std::stod(options.at("--percent").at(i));
  Policy policy = base;
  policy.placement = make_placement(percent);
  policy.micro_batch_size = std::stoi(options.at("--gpu-batch-size").at(0));
  policy.num_micro_batches = std::stoi(options.at("--num-gpu-batches").at(0));
  policy.dtype = parse_dtype(options.at("--dtype").at(0));
  return policy;
}

TEST(RequireFit, WhatTheMessageOffersFits) {
  const std::vector<std::array<double, 6>> placements{{100, 0, 100, 0, 100, 0},
                                                      {20, 80, 0, 100, 0, 100},
                                                      {33.3, 66.7, 33.3, 66.7, 33.3, 66.7},
                                                      {0.1, 99.9, 100, 0, 0, 0}};
  int num_refused = 0;
  for (const char* name : {"demo-model", "opt-1.3b", "opt-30b"})
    for (const std::array<double, 6>& percent : placements)
      for (const std::uint64_t gpu : {200 * MiB, 2 * GiB, 15 * GiB})
        for (const std::uint64_t dram : {300 * MiB, 4 * GiB, 64 * GiB}) {
          PlanInput input = plan_for(name, 12, 4, percent);
          const Budgets budgets{gpu, dram, 500 * GiB};
          try {
            require_fit(input, budgets);
            EXPECT_TRUE(fits(input, budgets));
          } catch (const UserError& error) {
            ++num_refused;
            EXPECT_EQ(error.code(), ExitCode::does_not_fit);
            EXPECT_FALSE(fits(input, budgets));
            const std::string message = error.what();
            if (message.find("not even one row") != std::string::npos) {
              PlanInput least = input;
              least.policy.micro_batch_size = least.policy.num_micro_batches = 1;
              least.policy.placement = make_placement({0, 0, 0, 0, 0, 0});
              EXPECT_FALSE(fits(least, budgets)) << message;
              continue;
            }
            EXPECT_NE(message.find(to_flags(input.policy)), std::string::npos) << message;
            EXPECT_NE(message.find("needs"), std::string::npos) << message;
            input.policy = pasted(message, input.policy);
            EXPECT_TRUE(fits(input, budgets)) << message << "\n" << explain_misfit(plan_memory(input), budgets);
          }
        }
  EXPECT_GT(num_refused, 30);
}

TEST(NearestFit, KeepsWhatFits) {
  const PlanInput input = plan_for("opt-1.3b", 12, 4, {20, 80, 50, 25, 0, 0});
  EXPECT_EQ(nearest_fit(input, {plenty, plenty, plenty}), input.policy);
}

TEST(NearestFit, MovesDownTheTiersBeforeItShrinksTheBlock) {
  const PlanInput input = plan_for("opt-6.7b", 8, 4, {100, 0, 100, 0, 100, 0});
  const Policy policy = nearest_fit(input, {12 * GiB, 200 * GiB, plenty});
  EXPECT_EQ(policy.micro_batch_size, 8);
  EXPECT_EQ(policy.num_micro_batches, 4);
  EXPECT_LT(policy.placement.weights.ssd(), 1e-9);
  EXPECT_LT(policy.placement.weights.gpu_percent, 100);
}

TEST(NearestFit, EndsForImpossibleBudgetsAndSaysWhy) {
  for (const Budgets& budgets : {Budgets{0, 0, 0}, Budgets{plenty, plenty, 0}, Budgets{0, plenty, plenty},
                                 Budgets{1 * MiB, 1 * MiB, 1 * MiB}, Budgets{plenty, 0, plenty}})
    for (const char* name : {"demo-model", "opt-175b"}) {
      const PlanInput input = plan_for(name, 48, 20, {10, 10, 10, 10, 10, 10});
      try {
        const Policy policy = nearest_fit(input, budgets);
        PlanInput found = input;
        found.policy = policy;
        EXPECT_TRUE(fits(found, budgets));
      } catch (const UserError& error) {
        EXPECT_EQ(error.code(), ExitCode::does_not_fit);
        EXPECT_NE(std::string(error.what()).find("may use"), std::string::npos) << error.what();
      }
    }
}

TEST(NearestFit, DiskThatIsTooSmallIsNamed) {
  const PlanInput input = plan_for("opt-30b", 4, 1, {0, 0, 0, 0, 0, 0});
  try {
    nearest_fit(input, {15 * GiB, 20 * GiB, 1 * GiB});
    FAIL();
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("ssd needs"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("--disk-mem"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace flexgen::test
