#include "base/ids.hpp"

#include <gtest/gtest.h>

#include <type_traits>
#include <unordered_set>

namespace flexgen::test {
namespace {

static_assert(!std::is_convertible_v<LayerId, RankId>);
static_assert(!std::is_convertible_v<std::int32_t, LayerId>);
static_assert(!std::is_convertible_v<LayerId, std::int32_t>);
static_assert(sizeof(RowId) == 8 && sizeof(LayerId) == 4);

TEST(Ids, CompareByValue) {
  EXPECT_EQ(LayerId(3), LayerId(3));
  EXPECT_NE(LayerId(3), LayerId(4));
  EXPECT_LT(MicroBatchId(0), MicroBatchId(1));
  EXPECT_EQ(LayerId().value, 0);
  EXPECT_EQ(RowId(1LL << 40).index(), std::size_t{1} << 40);
}

TEST(Ids, Hash) {
  std::unordered_set<RowId> rows;
  for (int i = 0; i < 100; ++i) rows.insert(RowId(i % 50));
  EXPECT_EQ(rows.size(), 50U);
  EXPECT_TRUE(rows.contains(RowId(49)));
  EXPECT_FALSE(rows.contains(RowId(50)));
}

}  // namespace
}  // namespace flexgen::test
