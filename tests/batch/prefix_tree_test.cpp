#include "batch/prefix_tree.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace flexgen::test {
namespace {

using Cuts = std::vector<std::int32_t>;

// Blocks of one number each, and two last tokens that are in none.
std::vector<std::int32_t> prompt_of(const std::vector<std::int32_t>& blocks) {
  std::vector<std::int32_t> prompt;
  for (const std::int32_t block : blocks) prompt.insert(prompt.end(), prefix_grain, block);
  prompt.insert(prompt.end(), 2, -1);
  return prompt;
}

struct Rows {
  void add(PrefixTree::Arrival row, const std::vector<std::int32_t>& blocks) {
    prompts[row] = prompt_of(blocks);
    tree.add(row, static_cast<std::int32_t>(prompts[row].size()), prompts[row]);
  }
  std::vector<PrefixTree::Arrival> beginning_with(const std::vector<std::int32_t>& blocks) const {
    std::vector<std::int32_t> tokens = prompt_of(blocks);
    tokens.resize(tokens.size() - 2);
    std::vector<PrefixTree::Arrival> rows;
    if (const PrefixTree::Ordered* found = tree.rows_that_begin_with(tokens))
      for (const auto& [positions, row] : *found) rows.push_back(row);
    return rows;
  }

  PrefixTree tree;
  std::map<PrefixTree::Arrival, std::vector<std::int32_t>> prompts;
};

TEST(PrefixTree, TheLastTwoTokensAreInNoBlock) {
  EXPECT_EQ(shareable_tokens(0), 0);
  EXPECT_EQ(shareable_tokens(prefix_grain + 1), 0);
  EXPECT_EQ(shareable_tokens(prefix_grain + 2), prefix_grain);
  Rows rows;
  rows.prompts[0] = std::vector<std::int32_t>(prefix_grain, 1);
  rows.tree.add(0, 64, rows.prompts[0]);
  rows.add(1, {1});
  EXPECT_EQ(rows.tree.cuts(0), Cuts{});
  EXPECT_EQ(rows.tree.cuts(1), Cuts{}) << "the other one has no whole block";
}

TEST(PrefixTree, CutsWhereHalfOfTheRowsGoElsewhere) {
  Rows rows;
  rows.add(0, {1, 2, 3, 4, 5});
  EXPECT_EQ(rows.tree.cuts(0), Cuts{}) << "alone";
  rows.add(1, {1, 2, 3, 4, 6});
  EXPECT_EQ(rows.tree.cuts(0), Cuts{4 * prefix_grain});
  rows.add(2, {1, 2, 7});
  EXPECT_EQ(rows.tree.cuts(0), Cuts{4 * prefix_grain}) << "two of three go on";
  EXPECT_EQ(rows.tree.cuts(2), Cuts{2 * prefix_grain});
  rows.add(3, {1, 2, 7, 8});
  EXPECT_EQ(rows.tree.cuts(0), (Cuts{2 * prefix_grain, 4 * prefix_grain}));
  EXPECT_EQ(rows.tree.cuts(3), (Cuts{2 * prefix_grain, 3 * prefix_grain}));
  rows.tree.remove(1);
  EXPECT_EQ(rows.tree.cuts(0), Cuts{2 * prefix_grain});
  EXPECT_EQ(rows.tree.cuts(1), Cuts{}) << "it waits no more";
}

TEST(PrefixTree, ARowAloneIsFoundByAllThatItBeginsWith) {
  Rows rows;
  rows.add(0, {1, 2, 3});
  EXPECT_EQ(rows.beginning_with({1}), std::vector<PrefixTree::Arrival>{0});
  EXPECT_EQ(rows.beginning_with({1, 2, 3}), std::vector<PrefixTree::Arrival>{0});
  EXPECT_TRUE(rows.beginning_with({1, 2, 4}).empty());
  EXPECT_TRUE(rows.beginning_with({1, 2, 3, 4}).empty());
}

TEST(PrefixTree, FindsWhatASearchOfAllRowsFinds) {
  std::mt19937 random(3);
  Rows rows;
  std::map<PrefixTree::Arrival, std::vector<std::int32_t>> blocks;
  for (PrefixTree::Arrival step = 0; step < 400; ++step) {
    if (blocks.size() > 20 && random() % 2 == 0) {
      const auto gone = std::next(blocks.begin(), static_cast<std::ptrdiff_t>(random() % blocks.size()));
      rows.tree.remove(gone->first);
      rows.prompts.erase(gone->first);
      blocks.erase(gone);
    } else {
      std::vector<std::int32_t>& of_row = blocks[step];
      for (std::size_t b = random() % 5; b > 0; --b) of_row.push_back(static_cast<std::int32_t>(random() % 2));
      rows.add(step, of_row);
    }
    std::vector<std::int32_t> wanted;
    for (std::size_t b = 1 + random() % 4; b > 0; --b) wanted.push_back(static_cast<std::int32_t>(random() % 2));
    std::multimap<std::size_t, PrefixTree::Arrival> expected;  // by length
    for (const auto& [row, of_row] : blocks)
      if (of_row.size() >= wanted.size() && std::equal(wanted.begin(), wanted.end(), of_row.begin()))
        expected.emplace(of_row.size(), row);
    std::vector<PrefixTree::Arrival> in_order;
    for (const auto& [length, row] : expected) in_order.push_back(row);
    ASSERT_EQ(rows.beginning_with(wanted), in_order) << "step " << step;
  }
}

}  // namespace
}  // namespace flexgen::test
