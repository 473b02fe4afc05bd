// Rows at the edge of a model's positions.
#include "run/rows/prompt_fit.hpp"

#include <gtest/gtest.h>

#include <numeric>

#include "base/error.hpp"

namespace flexgen::test {
namespace {

using Ids = std::vector<std::int32_t>;

Ids prompt(std::size_t length) {
  Ids ids(length);
  std::iota(ids.begin(), ids.end(), 100);
  return ids;
}

struct Fitted {
  Ids ids;
  std::int32_t num_new = 0;
};

constexpr bool wish = true;

Fitted fit(std::size_t length, std::int32_t max_tokens, bool is_wish, PromptCut cut = PromptCut::none,
           bool begin = false) {
  Fitted fitted{prompt(length), 0};
  fitted.num_new = PromptFit{8, cut}.apply(fitted.ids, max_tokens, is_wish, begin);
  return fitted;
}

std::string problem(std::size_t length, std::int32_t max_tokens, bool is_wish, PromptCut cut = PromptCut::none) {
  try {
    fit(length, max_tokens, is_wish, cut);
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::rows_failed);
    return error.what();
  }
  return "none";
}

TEST(PromptFit, TheLastTokenNeedsNoPosition) {
  EXPECT_EQ(fit(8, 1, !wish).num_new, 1);
  EXPECT_EQ(fit(5, 4, !wish).num_new, 4);
  EXPECT_EQ(fit(1, 8, !wish).num_new, 8);
  EXPECT_NE(problem(8, 2, !wish).find("8 prompt tokens and max_tokens 2 need 9 positions, the model has 8"),
            std::string::npos);
  EXPECT_NE(problem(1, 9, !wish), "none");
  EXPECT_NE(problem(9, 1, !wish).find("the prompt has 9 tokens"), std::string::npos);
}

TEST(PromptFit, AWishIsMetAsFarAsItFits) {
  EXPECT_EQ(fit(3, 4, wish).num_new, 4);
  EXPECT_EQ(fit(6, 4, wish).num_new, 3);
  EXPECT_EQ(fit(8, 4, wish).num_new, 1);
  EXPECT_EQ(fit(2, 100, wish).num_new, 7);
  const std::string text = problem(9, 4, wish);
  EXPECT_NE(text.find("the prompt has 9 tokens"), std::string::npos) << text;
  EXPECT_EQ(text.find("max_tokens"), std::string::npos) << "nobody set one: " << text;
}

TEST(PromptFit, CutsOnTheSideThatIsAskedFor) {
  EXPECT_EQ(fit(10, 3, !wish, PromptCut::left).ids, (Ids{104, 105, 106, 107, 108, 109}));
  EXPECT_EQ(fit(10, 3, !wish, PromptCut::left, true).ids, (Ids{100, 105, 106, 107, 108, 109}));
  EXPECT_EQ(fit(10, 3, !wish, PromptCut::right).ids, (Ids{100, 101, 102, 103, 104, 105}));
  EXPECT_EQ(fit(10, 3, !wish, PromptCut::right, true).ids, (Ids{100, 101, 102, 103, 104, 105}));
  EXPECT_EQ(fit(7, 3, wish, PromptCut::right).ids.size(), 6U) << "room for what is wished";
  EXPECT_EQ(fit(7, 3, wish, PromptCut::right).num_new, 3);
  EXPECT_EQ(fit(6, 3, !wish, PromptCut::left).ids, prompt(6)) << "it fits";
  EXPECT_EQ(fit(20, 8, !wish, PromptCut::left).ids, (Ids{119}));
  EXPECT_EQ(fit(20, 8, !wish, PromptCut::left, true).ids, (Ids{100}));
  EXPECT_EQ(fit(20, 100, wish, PromptCut::right).num_new, 8);
  EXPECT_NE(problem(20, 9, !wish, PromptCut::left).find("max_tokens 9"), std::string::npos);
}

TEST(PromptFit, SidesHaveNames) {
  EXPECT_EQ(parse_prompt_cut("left"), PromptCut::left);
  EXPECT_EQ(parse_prompt_cut("right"), PromptCut::right);
  EXPECT_EQ(parse_prompt_cut("error"), PromptCut::none);
  EXPECT_THROW(parse_prompt_cut("middle"), UserError);
}

}  // namespace
}  // namespace flexgen::test
