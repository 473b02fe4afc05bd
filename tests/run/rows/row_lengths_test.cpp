// How long the rows of a measurement are, and that they come as they were said to be.
#include "run/rows/row_lengths.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "run/rows/synthetic_rows.hpp"
#include "tests/support/scratch_place.hpp"
#include "tests/support/tiny_model.hpp"

namespace flexgen::test {
namespace {

TEST(RowLengths, AreDrawnFromTheirRangesByTheSeed) {
  const std::vector<RowLengths> rows = draw_lengths({3, 6}, {10, 10}, 400, 5);
  ASSERT_EQ(rows.size(), 400U);
  std::vector<int> seen(7);
  for (const RowLengths& row : rows) {
    ASSERT_GE(row.prompt, 3);
    ASSERT_LE(row.prompt, 6);
    ASSERT_EQ(row.generated, 10);
    ++seen[static_cast<std::size_t>(row.prompt)];
  }
  for (std::size_t length = 3; length <= 6; ++length) EXPECT_GT(seen[length], 60) << length;
  EXPECT_EQ(draw_lengths({3, 6}, {10, 10}, 400, 5), rows);
  EXPECT_NE(draw_lengths({3, 6}, {10, 10}, 400, 6), rows);
}

TEST(RowLengths, AreCountedAsAJob) {
  const std::vector<RowLengths> rows{{4, 3}, {10, 1}, {1, 8}};
  const JobShape shape = shape_of(rows);
  EXPECT_EQ(shape.num_rows, 3);
  EXPECT_EQ(shape.prompt_tokens, 15);
  EXPECT_EQ(shape.new_tokens, 12);
  EXPECT_EQ(shape.max_row_tokens, 10);
  const LengthsReport report = describe_lengths(rows);
  EXPECT_EQ(report.prompt.least, 1);
  EXPECT_EQ(report.prompt.most, 10);
  EXPECT_EQ(report.prompt.mean, 5);
  EXPECT_EQ(report.generated.mean, 4);
}

TEST(RowLengths, AreThoseOfARealJob) {
  const ScratchPlace scratch;
  const std::string path = scratch.path() / "rows.jsonl";
  const ModelSpec model = tiny_model(1);
  std::ofstream(path) << R"({"prompt": [5, 6, 7], "max_tokens": 4})"
                      << "\n"
                      << R"({"prompt": [[5], [6, 7]]})"
                      << "\n"
                      << "no row\n"
                      << R"({"prompt": [5, 999999], "max_tokens": 4})"
                      << "\n"
                      << R"({"prompt": [5, 5, 5, 5], "max_tokens": 2})"
                      << "\n";
  const auto read = [&](std::int64_t most) {
    RequestReader reader(path, {});
    return read_lengths(reader, Tokenizer::none(), model, {9, 9}, most, 1);
  };
  const InputLengths all = read(0);
  EXPECT_EQ(all.rows, (std::vector<RowLengths>{{3, 4}, {1, 9}, {2, 9}, {4, 2}}));
  EXPECT_EQ(all.num_bad_rows, 2U) << "one that is no row, one of a token that the model does not have";
  EXPECT_NE(all.first_fault.find("JSON"), std::string::npos) << all.first_fault;
  EXPECT_EQ(read(2).rows, (std::vector<RowLengths>{{3, 4}, {1, 9}}));
}

TEST(SyntheticRows, AreAsLongAsTheyWereSaidToBe) {
  SyntheticRows rows(11, {{4, 3}, {1, 8}});
  EXPECT_EQ(rows.num_left(), 2);
  const std::optional<RowRequest> first = rows.next_row(), second = rows.next_row();
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->prompt.size(), 4U);
  EXPECT_EQ(first->max_new_tokens, 3);
  EXPECT_FALSE(first->stop_at_eos);
  EXPECT_EQ(second->id, RowId(1));
  EXPECT_EQ(second->prompt.size(), 1U);
  for (const std::int32_t token : first->prompt) EXPECT_TRUE(token >= 0 && token < 11);
  EXPECT_EQ(rows.num_left(), 0);
  EXPECT_FALSE(rows.next_row());
}

TEST(SyntheticRows, BeginWithWhatAllHaveInCommon) {
  SyntheticRows rows(1000, {{6, 1}, {2, 1}, {6, 1}}, 4);
  const std::vector<std::int32_t> first = rows.next_row()->prompt, second = rows.next_row()->prompt,
                                  third = rows.next_row()->prompt;
  EXPECT_TRUE(std::equal(first.begin(), first.begin() + 4, third.begin()));
  EXPECT_NE(first, third);
  EXPECT_EQ(second, (std::vector{first[0], first[1]}));
}

}  // namespace
}  // namespace flexgen::test
