// What stands between rows and sweeps: the places of a slot, the window of rows that wait.
#include "batch/slot_rows.hpp"

#include <gtest/gtest.h>

#include "base/error.hpp"
#include "batch/waiting_rows.hpp"
#include "tests/support/listed_rows.hpp"

namespace flexgen::test {
namespace {

RowRequest row(std::int32_t id, std::size_t prompt, std::int32_t made) {
  return {RowId(id), std::vector<std::int32_t>(prompt, 5), made};
}

TEST(SlotRows, APlaceHasOneSequenceAtATime) {
  SlotRows slot(6, 3, CacheSpace{{32}});
  slot.admit(row(1, 2, 2), 2, 8);
  EXPECT_THROW(slot.admit(row(2, 2, 2), 2, 16), InternalError) << "the place";
  EXPECT_THROW(slot.admit(row(2, 2, 2), 1, 8), InternalError) << "the run";
  EXPECT_THROW(slot.at(1), InternalError);
  EXPECT_EQ(slot.at(2).id(), RowId(1));
  slot.release(2);
  EXPECT_EQ(slot.num_sequences(), 0);
  EXPECT_THROW(slot.release(2), InternalError);
  slot.admit(row(1, 2, 2), 2, 8);
  EXPECT_EQ(slot.num_sequences(), 1);
}

TEST(SlotRows, TheLowestPlaceAndTheBestRunAreTaken) {
  SlotRows slot(0, 3, CacheSpace{{24, 16}});
  slot.admit(row(0, 9, 4));  // 12 positions
  slot.admit(row(1, 1, 0));
  EXPECT_EQ(slot.at(0).run(), (CacheRun{0, 16}));
  EXPECT_EQ(slot.at(1).run(), (CacheRun{24, 8}));
  EXPECT_EQ(slot.num_held(), 24);
  EXPECT_EQ(slot.num_free_places(), 1);
  EXPECT_EQ(slot.by_begin(), (std::map<std::int32_t, std::int32_t>{{0, 0}, {24, 1}}));
  slot.release(0);
  EXPECT_EQ(slot.num_held(), 8);
  EXPECT_THROW(slot.admit(row(2, 24, 2)), InternalError) << "no run is as long";
  slot.admit(row(3, 4, 4));
  slot.admit(row(4, 4, 4));
  EXPECT_EQ(slot.at(0).id(), RowId(3));
  EXPECT_THROW(slot.admit(row(5, 1, 1)), InternalError) << "no place";
}

TEST(SlotRows, KnowsWhatItsSequencesCanBring) {
  SlotRows slot(0, 2, CacheSpace{{8192}});
  slot.admit(row(0, 5000, 2));
  slot.admit(row(1, 3, 2));
  EXPECT_EQ(slot.tokens_wanted(), 4096 + 3);
  EXPECT_EQ(slot.reading(), (std::vector{0, 1}));
  slot.at(0).next_work(4096);
  slot.at(1).next_work(3);
  slot.drop_read();
  EXPECT_EQ(slot.reading(), std::vector{0});
  EXPECT_EQ(slot.tokens_wanted(), 904 + 1);
  slot.release(0);
  EXPECT_TRUE(slot.reading().empty()) << "it left while it read";
  EXPECT_TRUE(slot.wants_more());
  slot.at(1).next_work(1);
  EXPECT_FALSE(slot.wants_more());
}

TEST(WaitingRows, KnowsWhetherThereIsAnotherWithoutLosingIt) {
  ListedRows source({row(0, 1, 1), row(1, 1, 1)});
  WaitingRows waiting(source, 1);
  EXPECT_EQ(waiting.count(), 2);
  EXPECT_TRUE(waiting.any());
  EXPECT_TRUE(waiting.any());
  EXPECT_EQ(waiting.count(), 2) << "the one that was pulled ahead still waits";
  EXPECT_FALSE(waiting.are_last());
  EXPECT_EQ(waiting.take(waiting.oldest()).id, RowId(0));
  EXPECT_TRUE(waiting.any());
  EXPECT_TRUE(waiting.are_last());
  EXPECT_EQ(waiting.take(waiting.oldest()).id, RowId(1));
  EXPECT_EQ(waiting.count(), 0);
  EXPECT_FALSE(waiting.any());
  EXPECT_THROW(waiting.take(1), InternalError);
}

TEST(WaitingRows, TheWindowIsSearchedByLengthAndByLife) {
  ListedRows source({row(0, 8, 1), row(1, 30, 2), row(2, 20, 4), row(3, 17, 1), row(4, 1, 40), row(5, 90, 9)});
  WaitingRows waiting(source, 5);
  waiting.fill();  // 8, 32, 24, 24, 40 positions
  EXPECT_EQ(waiting.count(), 6);
  EXPECT_DOUBLE_EQ(waiting.mean_positions(), 25.6);
  EXPECT_EQ(waiting.shortest(), 0);
  EXPECT_EQ(waiting.longest_within(7), std::nullopt);
  EXPECT_EQ(waiting.longest_within(31), 2) << "the older of two that are as long";
  EXPECT_EQ(waiting.longest_within(1000), 4) << "the last is not in the window";
  EXPECT_EQ(waiting.longest_lived_within(40), 4);
  EXPECT_EQ(waiting.longest_lived_within(39), 2);
  EXPECT_EQ(waiting.longest_lived_within(8), 0);
  EXPECT_EQ(waiting.take(2).id, RowId(2));
  EXPECT_EQ(waiting.longest_within(31), 3);
  EXPECT_EQ(waiting.times_oldest_was_passed(), 1);
  waiting.take(0);
  EXPECT_EQ(waiting.oldest(), 1);
  EXPECT_EQ(waiting.times_oldest_was_passed(), 1) << "by row 2, not by row 0";
  waiting.fill();
  EXPECT_EQ(waiting.longest_within(1000), 5);
  EXPECT_DOUBLE_EQ(waiting.mean_positions(), (32 + 24 + 40 + 104) / 4.0);
}

}  // namespace
}  // namespace flexgen::test
