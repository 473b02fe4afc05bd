#include "schedule/cursor.hpp"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace flexgen::test {
namespace {

using Pair = std::pair<std::int32_t, std::int32_t>;  // layer, micro-batch

TEST(Cursor, WalksEveryPairOnceAcrossThenDown) {
  for (std::int32_t layers = 1; layers <= 6; ++layers)
    for (std::int32_t batches = 1; batches <= 5; ++batches) {
      std::vector<Pair> walked;
      std::vector<Pair> expected;
      for (std::int32_t j = 0; j < layers; ++j)
        for (std::int32_t k = 0; k < batches; ++k) expected.emplace_back(j, k);
      for (std::optional<Cursor> at = Cursor({layers, batches}); at; at = at->next())
        walked.emplace_back(at->layer().value, at->micro_batch().value);
      EXPECT_EQ(walked, expected) << layers << " layers, " << batches << " micro-batches";
    }
}

TEST(Cursor, KnowsWhereItIs) {
  for (std::int32_t layers = 1; layers <= 4; ++layers)
    for (std::int32_t batches = 1; batches <= 4; ++batches)
      for (std::optional<Cursor> at = Cursor({layers, batches}); at; at = at->next()) {
        EXPECT_EQ(at->at_last_layer(), at->layer().value == layers - 1);
        EXPECT_EQ(at->at_last_micro_batch(), at->micro_batch().value == batches - 1);
        EXPECT_EQ(at->at_end(), !at->next().has_value());
        EXPECT_EQ(at->next_layer().value, (at->layer().value + 1) % layers);
      }
}

TEST(Cursor, NextLeavesTheCursorAlone) {
  const Cursor at({2, 2});
  (void)at.next();
  EXPECT_EQ(at.layer(), LayerId(0));
  EXPECT_EQ(at.micro_batch(), MicroBatchId(0));
}

}  // namespace
}  // namespace flexgen::test
