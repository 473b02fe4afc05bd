// Jobs that are longer than the window in which their rows are read ahead; a made-up engine takes them.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <map>
#include <set>
#include <thread>

#include "base/error.hpp"
#include "run/rows/row_book.hpp"
#include "run/rows/score_book.hpp"
#include "tests/support/row_files.hpp"
#include "tests/support/sanitized.hpp"

namespace flexgen::test {
namespace {

using nlohmann::json;

double resident_mib() {
  std::ifstream file("/proc/self/statm");
  std::int64_t total = 0, resident = 0;
  file >> total >> resident;
  return static_cast<double>(resident * ::sysconf(_SC_PAGESIZE)) / (1024.0 * 1024.0);
}

class StreamingTest : public RowFilesTest {
 protected:
  static BookRules window_of(std::size_t num_rows) {
    BookRules rules;
    rules.window.num_rows = num_rows;
    return rules;
  }

  std::string write(const std::vector<json>& rows) {
    std::string text;
    for (const json& row : rows) text += row.dump() + "\n";
    return place_.write("long.jsonl", text);
  }

  static std::vector<json> numbered(int count) {
    std::vector<json> rows;
    for (int i = 0; i < count; ++i)
      rows.push_back({{"custom_id", std::to_string(i)}, {"prompt", "row " + std::to_string(i)}, {"max_tokens", 2}});
    return rows;
  }

  /// Has every row give its id's number of tokens, one; returns how many ran.
  static int run_all(RowBook& book) {
    int count = 0;
    while (const auto row = book.next_row()) {
      book.add_token(row->id, 5);
      book.finish(row->id, FinishReason::length);
      ++count;
    }
    return count;
  }

  /// Runs a pass, with scores of what asks for them; the lengths of the prompts in the order in which they came.
  static std::vector<std::size_t> run_pass(RowBook& book) {
    std::vector<std::size_t> lengths;
    book.start();
    while (const auto row = book.next_row()) {
      lengths.push_back(row->prompt.size());
      const std::vector<float> scores(row->prompt.size() - 1, -1.0F);
      if (row->score_prompt) book.add_scores(row->id, {scores, 0, {}, {}});
      if (row->rules && row->rules->sampling.num_logprobs >= 0)
        book.add_scores(row->id, {{scores.data(), 1}, 0, {}, {}});
      book.add_token(row->id, 5);
      book.finish(row->id, FinishReason::length);
    }
    return lengths;
  }

  /// Rows of ids, so many each.
  static std::vector<json> of_lengths(const std::vector<int>& lengths) {
    std::vector<json> rows;
    for (const int length : lengths)
      rows.push_back({{"custom_id", std::to_string(rows.size())},
                      {"prompt", std::vector<int>(static_cast<std::size_t>(length), 5)},
                      {"max_tokens", 1}});
    return rows;
  }

  std::vector<std::string> ids_in_order() {
    std::vector<std::string> all;
    for (const json& line : results()) all.push_back(line.at("custom_id"));
    return all;
  }

  std::set<std::string> ids() {
    std::set<std::string> all;
    for (const json& line : results()) EXPECT_TRUE(all.insert(line.at("custom_id")).second) << line;
    return all;
  }
};

TEST_F(StreamingTest, AJobThatEndsWithinTheWindowIsKnownWhole) {
  RequestReader reader(write(numbered(20)), {});
  RowBook book(tokenizer(), model_, writer_, {}, window_of(21));
  book.read(reader);
  EXPECT_TRUE(book.has_read_all());
  EXPECT_EQ(book.num_left(), 20);
  EXPECT_EQ(book.num_rows(), 20U);
  EXPECT_EQ(book.shape().num_rows, 20);
  EXPECT_LT(book.shape().max_row_tokens, 10);
  EXPECT_FALSE(book.shape().sampling.is_wanted);
}

TEST_F(StreamingTest, AJobThatGoesOnIsPlannedForTheLongestRow) {
  RequestReader reader(write(numbered(20)), {});
  RowBook book(tokenizer(), model_, writer_, {}, window_of(8));
  book.read(reader);
  EXPECT_FALSE(book.has_read_all());
  EXPECT_FALSE(book.num_left());
  EXPECT_FALSE(book.num_rows());
  EXPECT_EQ(book.counts().rows, 8U);
  EXPECT_EQ(book.shape().num_rows, 9) << "one more stands for those that follow";
  EXPECT_EQ(book.shape().max_row_tokens, model_.max_positions);
  EXPECT_TRUE(book.shape().sampling.is_wanted);
  EXPECT_FALSE(book.shape().scores);
  EXPECT_EQ(run_all(book), 20);
  EXPECT_EQ(book.num_rows(), 20U);
  EXPECT_EQ(book.counts().rows, 20U);
  EXPECT_EQ(book.counts().sequences, 20U);
  EXPECT_EQ(ids().size(), 20U);
}

TEST_F(StreamingTest, BadRowsBehindTheWindowAreResultsAndAreTold) {
  std::vector<json> rows = numbered(30);
  rows[3].erase("prompt");
  rows[17]["max_tokens"] = "many";
  rows[29]["custom_id"] = "4";
  rows[26]["logprobs"] = 3;  // there is room for it
  rows[26]["temperature"] = 1;
  RequestReader reader(write(rows), {});
  RowBook book(tokenizer(), model_, writer_, {}, window_of(5));
  book.read(reader);
  int num_told = 0;
  book.start([&] { ++num_told; });
  int count = 0;
  while (const auto row = book.next_row()) {
    if (row->rules) {
      const std::vector<float> scores{-1.0F}, top_scores{-1.0F, -2.0F, -3.0F};
      const std::vector<std::int32_t> top{5, 6, 7};
      book.add_scores(row->id, {scores, 3, top, top_scores});
    }
    book.add_token(row->id, 5);
    book.finish(row->id, FinishReason::length);
    ++count;
  }
  EXPECT_EQ(count, 27);
  EXPECT_EQ(num_told, 2) << "the first stood in the window";
  EXPECT_EQ(book.counts().rows, 30U);
  EXPECT_EQ(book.counts().failed_rows, 3U);
  std::map<std::string, std::string> codes;
  for (const json& line : results())
    if (line.contains("error")) codes[line.at("custom_id")] = line.at("error").at("code");
  EXPECT_EQ(codes, (std::map<std::string, std::string>{
                       {"3", "missing_field"}, {"17", "invalid_field"}, {"line-30", "duplicate_custom_id"}}));
}

TEST_F(StreamingTest, RowsThatThePlanHasNoRoomForRunInAPassOfTheirOwn) {
  std::vector<json> rows = numbered(30);
  rows[8]["prompt_logprobs"] = 0;  // no row of the window asks for that
  rows[17]["echo"] = true;
  rows[17]["logprobs"] = 0;
  rows[20]["logit_bias"] = json::object();
  for (int token = 0; token < 1200; ++token) rows[20]["logit_bias"][std::to_string(token)] = 1;  // there is room for it
  RequestReader reader(write(rows), {});
  RowBook book(tokenizer(), model_, writer_, {}, window_of(6));
  book.read(reader);
  EXPECT_FALSE(book.shape().scores);
  EXPECT_EQ(run_pass(book).size(), 28U);
  EXPECT_EQ(book.num_left(), 0);
  EXPECT_TRUE(book.begin_pass());
  EXPECT_TRUE(book.shape().scores);
  EXPECT_EQ(book.shape().num_rows, 2) << "no others follow";
  EXPECT_LT(book.shape().max_row_tokens, 10);
  EXPECT_EQ(book.num_left(), 2);
  EXPECT_EQ(run_pass(book).size(), 2U);
  EXPECT_FALSE(book.begin_pass());
  EXPECT_EQ(book.counts().rows, 30U);
  EXPECT_EQ(book.counts().failed_rows, 0U);
  EXPECT_EQ(ids().size(), 30U);
  EXPECT_EQ(ids_in_order()[28], "8");
  EXPECT_EQ(ids_in_order()[29], "17");
}

TEST_F(StreamingTest, HalfAWindowSetAsideEndsThePassAndTheNextKnowsWhatIsAskedFor) {
  std::vector<json> rows = numbered(200);
  for (std::size_t i = 50; i < rows.size(); i += 10) rows[i]["prompt_logprobs"] = 0;
  RequestReader reader(write(rows), {});
  RowBook book(tokenizer(), model_, writer_, {}, window_of(8));
  book.read(reader);
  EXPECT_EQ(run_pass(book).size(), 77U) << "up to the fourth, row 80, but for these";
  EXPECT_TRUE(book.begin_pass());
  EXPECT_FALSE(book.has_read_all());
  EXPECT_FALSE(book.num_left());
  EXPECT_EQ(book.shape().max_row_tokens, model_.max_positions) << "others follow";
  EXPECT_EQ(run_pass(book).size(), 123U);
  EXPECT_FALSE(book.begin_pass());
  EXPECT_EQ(ids().size(), 200U);
  EXPECT_EQ(book.counts().sequences, 200U);
}

TEST_F(StreamingTest, NoRowWaitsForAllTheOthers) {
  std::vector<json> rows = numbered(800);
  rows[100]["prompt_logprobs"] = 0;
  RequestReader reader(write(rows), {});
  RowBook book(tokenizer(), model_, writer_, {}, window_of(4));
  book.read(reader);
  EXPECT_EQ(run_pass(book).size(), 100 + 64U * 4);
  EXPECT_TRUE(book.begin_pass());
  EXPECT_EQ(run_pass(book).size(), 800 - 100 - 64U * 4);
  EXPECT_FALSE(book.begin_pass());
  EXPECT_EQ(ids().size(), 800U);
}

TEST_F(StreamingTest, WhatAnEarlierPassWasAskedForStaysPlanned) {
  std::vector<json> rows = numbered(60);
  rows[10]["prompt_logprobs"] = 0;
  rows[11]["prompt_logprobs"] = 0;
  for (const std::size_t i : {20, 21}) {
    rows[i]["logit_bias"] = json::object();
    for (int token = 0; token < 3000; ++token) rows[i]["logit_bias"][std::to_string(token)] = 1;
  }
  rows[40]["prompt_logprobs"] = 0;
  rows[41]["prompt_logprobs"] = 0;
  RequestReader reader(write(rows), {});
  RowBook book(tokenizer(), model_, writer_, {}, window_of(4));
  book.read(reader);
  int num_passes = 0;
  do {
    ++num_passes;
    run_pass(book);
  } while (book.begin_pass());
  EXPECT_EQ(num_passes, 3) << "two scored, two with many biases; the last two have room";
  EXPECT_EQ(ids().size(), 60U);
}

TEST_F(StreamingTest, WhereTheLongestRowDoesNotFitThoseThatAreKnownDecide) {
  std::vector<int> lengths(20, 3);
  lengths[12] = 40;
  lengths[15] = 30;
  RequestReader reader(write(of_lengths(lengths)), {});
  RowBook book(tokenizer(), model_, writer_, {}, window_of(8));
  book.read(reader);
  EXPECT_EQ(book.shape().max_row_tokens, model_.max_positions);
  EXPECT_TRUE(book.plan_by_less("too much"));
  EXPECT_EQ(book.shape().max_row_tokens, 3);
  EXPECT_EQ(book.shape().num_rows, 8);
  EXPECT_FALSE(book.plan_by_less("too much")) << "a job that is begun with these is refused";
  EXPECT_EQ(run_pass(book), std::vector<std::size_t>(18, 3));
  EXPECT_TRUE(book.begin_pass());
  EXPECT_EQ(book.shape().max_row_tokens, 40);
  EXPECT_EQ(run_pass(book), (std::vector<std::size_t>{40, 30}));
}

TEST_F(StreamingTest, ARowThatFitsInNoPlanFailsAndThoseThatNeedAsMuch) {
  std::vector<int> lengths(24, 3);
  lengths[10] = 50;
  lengths[11] = 20;
  lengths[12] = 60;
  lengths[13] = 50;
  RequestReader reader(write(of_lengths(lengths)), {});
  RowBook book(tokenizer(), model_, writer_, {}, window_of(10));
  book.read(reader);
  EXPECT_TRUE(book.plan_by_less(""));
  int num_told = 0;
  EXPECT_EQ(run_pass(book).size(), 20U);
  book.start([&] { ++num_told; });
  EXPECT_TRUE(book.begin_pass());
  // A machine for up to 25 tokens.
  int num_tries = 0;
  while (book.shape().max_row_tokens > 25) {
    ++num_tries;
    ASSERT_TRUE(book.plan_by_less("25 tokens at most"));
  }
  EXPECT_EQ(num_tries, 3) << "four rows, two, one, which fails";
  EXPECT_EQ(book.shape().num_rows, 1);
  EXPECT_EQ(run_pass(book), std::vector<std::size_t>{20});
  EXPECT_FALSE(book.begin_pass());
  EXPECT_EQ(num_told, 3);
  EXPECT_EQ(book.counts().rows, 24U);
  EXPECT_EQ(book.counts().failed_rows, 3U);
  int num_errors = 0;
  for (const json& line : results()) {
    if (!line.contains("error")) continue;
    ++num_errors;
    EXPECT_EQ(line["error"]["code"], "does_not_fit");
    EXPECT_NE(std::string(line["error"]["message"]).find("25 tokens at most"), std::string::npos);
  }
  EXPECT_EQ(num_errors, 3);
}

TEST_F(StreamingTest, TooManyErrorsEndTheJob) {
  std::vector<json> rows = numbered(40);
  for (int i = 10; i < 14; ++i) rows[static_cast<std::size_t>(i)].erase("prompt");
  BookRules rules = window_of(4);
  rules.errors.most_rows = 3;
  RequestReader reader(write(rows), {});
  RowBook book(tokenizer(), model_, writer_, {}, rules);
  book.read(reader);
  try {
    run_all(book);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::rows_failed);
    EXPECT_NE(std::string(error.what()).find("--max-row-errors allows 3"), std::string::npos) << error.what();
  }
  std::size_t num_errors = 0;
  for (const json& line : results()) num_errors += line.contains("error") ? 1 : 0;
  EXPECT_EQ(num_errors, 4U) << "what is finished is kept";
}

TEST_F(StreamingTest, ASharePassesFromAHundredRowsOn) {
  const ErrorLimit limit = ErrorLimit::parse("max-row-errors", "5%");
  EXPECT_NO_THROW(limit.check(99, 99, ""));
  EXPECT_NO_THROW(limit.check(5, 100, ""));
  EXPECT_THROW(limit.check(6, 100, ""), UserError);
  EXPECT_NO_THROW(ErrorLimit::parse("max-row-errors", "2").check(2, 2, ""));
  EXPECT_THROW(ErrorLimit::parse("max-row-errors", "0").check(1, 1000, ""), UserError);
  for (const char* bad : {"", "%", "-1", "5 %", "101%", "x", "1.5"})
    EXPECT_THROW(ErrorLimit::parse("max-row-errors", bad), UserError) << bad;
}

TEST_F(StreamingTest, ABookWhoseReaderWaitsForAPipeCanEnd) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  std::string text;
  for (const json& row : numbered(5)) text += row.dump() + "\n";
  ASSERT_EQ(::write(ends[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
  const std::string filler = "\n" + std::string(1 << 15, ' ') + "\n";
  std::thread writer([&] {  // until the beginning that is looked at is full
    for (int i = 0; i < 8; ++i) EXPECT_GT(::write(ends[1], filler.data(), filler.size()), 0);
  });
  const auto began = std::chrono::steady_clock::now();
  {
    RequestReader reader("/dev/fd/" + std::to_string(ends[0]), {});
    RowBook book(tokenizer(), model_, writer_, {}, window_of(3));
    book.read(reader);
    book.start();
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(book.next_row());
  }
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(5));
  writer.join();
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_F(StreamingTest, TextsToScoreAreReadAhead) {
  std::vector<json> rows;
  for (int i = 0; i < 30; ++i)
    rows.push_back({{"custom_id", std::to_string(i)}, {"text", i % 7 == 0 ? json({2}) : json({2, 3, 4})}});
  rows[20] = {{"custom_id", "bad"}};
  RequestReader reader(write(rows), {0, true});
  ScoreBook book(tokenizer(), model_, &writer_, {8, 7, 0, false, {}, {4}});
  book.read(reader);
  EXPECT_FALSE(book.num_left());
  EXPECT_EQ(book.shape().max_row_tokens, 8);
  int num_told = 0;
  book.start([&](bool) { ++num_told; });
  while (const auto row = book.next_row()) {
    book.add_scores(row->id, std::vector<float>(row->prompt.size() - 1, -1.0F));
    EXPECT_TRUE(book.finish(row->id));
  }
  EXPECT_EQ(book.counts().rows, 30U);
  EXPECT_EQ(book.num_failed(), 1U);
  EXPECT_EQ(num_told, 6) << "five of a single token, one bad";
  EXPECT_EQ(book.totals().tokens, 2U * 24U);
  EXPECT_EQ(ids().size(), 30U);
}

// The million of a real job takes five times as long, and as little memory: nothing is kept of a row but its id's hash.
TEST_F(StreamingTest, MemoryStaysFlatOverManyRows) {
  constexpr int num_rows = 200'000;
  const std::string path = place_.file("many.jsonl");
  {
    std::ofstream file(path);
    for (int i = 0; i < num_rows; ++i)
      file << "{\"custom_id\":\"request-" << i << "\",\"prompt\":\"Is number " << i << " even?\",\"max_tokens\":2}\n";
  }
  ResultWriter nowhere({.path = "/dev/null"});
  RequestReader reader(path, {});
  RowBook book(tokenizer(), model_, nowhere, {});
  book.read(reader);
  book.start();
  const double first_mib = resident_mib();
  std::vector<double> seconds;  // of each quarter
  auto began = std::chrono::steady_clock::now();
  int count = 0;
  double most_mib = first_mib;
  while (const auto row = book.next_row()) {
    book.add_token(row->id, 5);
    book.finish(row->id, FinishReason::length);
    if (++count % (num_rows / 4) != 0) continue;
    most_mib = std::max(most_mib, resident_mib());
    const auto now = std::chrono::steady_clock::now();
    seconds.push_back(std::chrono::duration<double>(now - std::exchange(began, now)).count());
  }
  EXPECT_EQ(count, num_rows);
  // The address sanitizer keeps what was freed, by the hundred MiB.
  if (!is_sanitized) {
    EXPECT_LT(most_mib - first_mib, 40);
  }
  RecordProperty("growth_mib", std::to_string(most_mib - first_mib));
  EXPECT_LT(seconds[3], 3 * seconds[1] + 0.5) << "rows come as fast at the end as before";
}

}  // namespace
}  // namespace flexgen::test
