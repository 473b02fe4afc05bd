// Parts of prompts: within the budget, never a single token of a longer prompt.
#include "batch/prompt_chunk.hpp"

#include <gtest/gtest.h>

namespace flexgen::test {
namespace {

TEST(PromptChunk, IsWithinTheBudgetAndLeavesNoSingleToken) {
  for (std::int32_t left = 1; left <= 40; ++left)
    for (std::int32_t most = 1; most <= 40; ++most) {
      const std::int32_t count = prompt_chunk(left, most);
      EXPECT_LE(count, std::min(left, most));
      EXPECT_NE(left - count, 1) << left << " with " << most;
      EXPECT_TRUE(count != 1 || left == 1);
      if (most >= 3 || most >= left) {
        EXPECT_GT(count, 0);
        EXPECT_GE(count, std::min(left, most) - 1) << "as much as there is";
      }
    }
  EXPECT_EQ(prompt_chunk(3, 2), 0);
  EXPECT_EQ(prompt_chunk(5000, 9000), call_tokens);
}

TEST(PromptChunk, ABudgetOfOneTokenEndsEveryPrompt) {
  for (const std::int32_t budget : {1, 2, 3})
    for (std::int32_t left = 9; left > 0;) {
      const std::int32_t count = least_prompt_chunk(left, budget);
      ASSERT_GT(count, 0);
      left -= count;
    }
}

}  // namespace
}  // namespace flexgen::test
