#include "job/output/journal_record.hpp"

#include <gtest/gtest.h>

namespace flexgen::test {
namespace {

DoneRows rows_of(std::initializer_list<std::uint64_t> ordinals) {
  DoneRows rows;
  for (const std::uint64_t ordinal : ordinals) rows.add(ordinal);
  return rows;
}

TEST(DoneRows, AreWhatWasAdded) {
  DoneRows rows = rows_of({0, 63, 64, 1000000});
  EXPECT_FALSE(rows.add(64));
  EXPECT_EQ(rows.count(), 4u);
  for (const std::uint64_t ordinal : {0, 63, 64, 1000000}) EXPECT_TRUE(rows.contains(ordinal));
  for (const std::uint64_t ordinal : {1, 62, 65, 999999, 1000001, 90000000}) EXPECT_FALSE(rows.contains(ordinal));
}

TEST(DoneRows, AsText) {
  EXPECT_EQ(DoneRows().to_text(), "-");
  EXPECT_EQ(rows_of({7}).to_text(), "7");
  EXPECT_EQ(rows_of({1, 2, 3, 5, 62, 63, 64, 65}).to_text(), "1-3,5,62-65");
  for (const DoneRows& rows : {DoneRows(), rows_of({0}), rows_of({5, 6, 7, 200, 202})})
    EXPECT_EQ(DoneRows::from_text(rows.to_text())->to_text(), rows.to_text());
  for (const char* text : {"", "1,", ",1", "1-", "3-2", "x", "1 2", "99999999999999999999", "1-99999999999999"})
    EXPECT_FALSE(DoneRows::from_text(text)) << text;
}

/// Of every kind one.
std::vector<JournalRecord> records() {
  RowTotals totals;
  totals.add({false, -1.0 / 3, 7});
  totals.add({true});
  return {HeadRecord{1700000000, {{"the input", "5 bytes \"x\""}}, {{"--dtype", "float32"}}},
          BaseRecord{rows_of({1, 2, 9}), totals, {{{120, 0xdeadbeef}, {3, 1}}}},
          RowRecord{17, 1, {true, -2.5, 3}, {4096, 0x1}},
          HeldRecord{4, 0, {}, R"({"text": "a b"})"},
          ReleaseRecord{1, {77, 0xabc}, {4, 5, 1000000}},
          SyncRecord{{5, 6}},
          CompleteRecord{}};
}

std::string text_of(const JournalRecord& record) {
  std::string text;
  append_record(record, text);
  return text;
}

TEST(JournalRecord, ComesBackAsItWas) {
  for (const JournalRecord& record : records()) {
    const std::string text = text_of(record);
    ASSERT_TRUE(text.ends_with('\n'));
    const auto parsed = parse_record(std::string_view(text).substr(0, text.size() - 1));
    ASSERT_TRUE(parsed) << text;
    EXPECT_EQ(parsed->index(), record.index());
    EXPECT_EQ(text_of(*parsed), text);
  }
}

TEST(JournalRecord, AnyChangeShows) {
  for (const JournalRecord& record : records()) {
    const std::string text = text_of(record);
    const std::string line = text.substr(0, text.size() - 1);
    for (std::size_t i = 0; i < line.size(); ++i) {
      std::string changed = line;
      changed[i] = static_cast<char>(changed[i] ^ 1);
      EXPECT_FALSE(parse_record(changed)) << changed;
      EXPECT_FALSE(parse_record(line.substr(0, i))) << line.substr(0, i);
    }
  }
}

TEST(JournalRecord, WhatNoVersionWritesIsRefused) {
  for (const std::string text :
       {"x 1", "r 1 2 0 0x0p+0 0 5 1", "r 1 0 0 0x0p+0 0 5", "h 1", "o 0 5 1", "s 1",
        "j {\"version\":2,\"created\":1,\"job\":{},\"found\":{}}", "j {}", "b 1 1 0 0 1 1 1 1 x"}) {
    std::string digits(8, '0');
    std::snprintf(digits.data(), 9, "%08x", checksum(text));
    EXPECT_FALSE(parse_record(digits + " " + text)) << text;
  }
}

}  // namespace
}  // namespace flexgen::test
