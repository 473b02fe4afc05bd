#include "run/planning/placement_file.hpp"

#include <gtest/gtest.h>

#include "base/error.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

TEST(PlacementFile, HoldsWhatWasWritten) {
  const ScratchPlace place;
  JobPolicy policy;
  policy.slices = {3, 5};
  policy.stages.resize(2);
  policy.stages[0].placement = make_placement({12.5, 80, 0, 100, 100, 0});
  policy.stages[0].host_attention_percent = 60;
  policy.stages[1].separate_layers = false;
  write_placements(policy, place.file("ranks.json"));
  const RankPlacements read = read_placements(place.file("ranks.json"));
  EXPECT_EQ(read.slices, policy.slices);
  ASSERT_EQ(read.stages.size(), 2U);
  for (std::size_t r = 0; r < 2; ++r) {
    EXPECT_EQ(read.stages[r].placement, policy.stages[r].placement);
    EXPECT_EQ(read.stages[r].host_attention_percent, policy.stages[r].host_attention_percent);
    EXPECT_EQ(read.stages[r].separate_layers, policy.stages[r].separate_layers);
  }
}

TEST(PlacementFile, WhatIsLeftOutIsOpen) {
  const ScratchPlace place;
  const RankPlacements read =
      read_placements(place.write("ranks.json", R"({"ranks": [{"percent": [0, 100, 0, 100, 0, 100]}]})"));
  EXPECT_FALSE(read.slices);
  EXPECT_FALSE(read.stages.at(0).host_attention_percent || read.stages.at(0).separate_layers);
}

TEST(PlacementFile, WhatIsNoneIsRefusedByName) {
  const ScratchPlace place;
  for (const char* text :
       {"", "[]", "{}", R"({"ranks": []})", R"({"ranks": [{}]})", R"({"ranks": [{"percent": [1, 2]}]})",
        R"({"ranks": [{"percent": [0, 100, 0, 100, 0, 100], "percents": 1}]})",
        R"({"ranks": [{"percent": [0, 100, 0, 100, 0, 100], "cpu_attention_percent": 101}]})",
        R"({"ranks": [{"percent": [60, 60, 0, 100, 0, 100]}]})"})
    EXPECT_THROW(read_placements(place.write("bad.json", text)), UserError) << text;
  EXPECT_THROW(read_placements(place.file("none.json")), UserError);
}

}  // namespace
}  // namespace flexgen::test
