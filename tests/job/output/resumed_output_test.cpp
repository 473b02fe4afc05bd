// Jobs that end before their last row, in every way, and what the next run makes of what they have left.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <numeric>
#include <random>
#include <sstream>

#include "base/error.hpp"
#include "job/output/result_writer.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

namespace fs = std::filesystem;

std::string unpacked_gzip(const std::string& path) {
  std::string text(1 << 20, '\0');
  const gzFile file = ::gzopen(path.c_str(), "rb");
  const int count = ::gzread(file, text.data(), static_cast<unsigned>(text.size()));
  EXPECT_EQ(::gzclose(file), Z_OK) << "no whole members";
  EXPECT_GE(count, 0);
  text.resize(static_cast<std::size_t>(std::max(count, 0)));
  return text;
}

std::string unpacked_zstd(std::string_view packed) {
  std::string text;
  while (!packed.empty()) {
    const std::size_t frame = ::ZSTD_findFrameCompressedSize(packed.data(), packed.size());
    if (::ZSTD_isError(frame) != 0) {
      ADD_FAILURE() << "no whole frame";
      return text;
    }
    std::string part(::ZSTD_getFrameContentSize(packed.data(), frame), '\0');
    EXPECT_EQ(::ZSTD_decompress(part.data(), part.size(), packed.data(), frame), part.size());
    text += part;
    packed.remove_prefix(frame);
  }
  return text;
}

std::string unpacked(const std::string& path) {
  if (path.ends_with(".gz")) return unpacked_gzip(path);
  return path.ends_with(".zst") ? unpacked_zstd(file_text(path)) : file_text(path);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

/// A form of output, and a job of rows 1, 2, ... over it, every fifth of which fails.
struct Form {
  const char* name;
  const char* errors;  // "": among the others
  RowOrder order;
};

std::ostream& operator<<(std::ostream& to, const Form& form) { return to << form.name << " " << form.errors; }

class ResumedOutput : public ::testing::TestWithParam<Form> {
 protected:
  static constexpr std::uint64_t num_rows = 23;

  static bool fails(std::uint64_t row) { return row % 5 == 0; }
  static std::string line(std::uint64_t row) {
    return "{\"row\":" + std::to_string(row) + ",\"x\":\"" + std::string(row % 7, 'x') + "\"}";
  }
  static RowIdentity identity(std::uint64_t row) {
    RowIdentity identity;
    identity.ordinal = row;
    return identity;
  }

  std::string output() const { return place_.file(GetParam().name); }
  std::string errors() const { return *GetParam().errors ? place_.file(GetParam().errors) : ""; }
  OutputRequest request(const char* input = "input") const {
    OutputRequest request{output(), errors()};
    request.order = GetParam().order;
    request.sync = SyncRule::end;
    request.identity = JobIdentity{{"the input", input}};
    return request;
  }

  /// Runs what is left of the job, in an order made of `seed`, but ends after `most` rows.
  static std::uint64_t run(ResultWriter& writer, unsigned seed, std::uint64_t most = num_rows) {
    std::vector<std::uint64_t> left;
    for (std::uint64_t row = 1; row <= num_rows; ++row)
      if (writer.admit(identity(row))) left.push_back(row);
    std::shuffle(left.begin(), left.end(), std::mt19937(seed));
    writer.start();
    left.resize(std::min<std::size_t>(left.size(), most));
    for (const std::uint64_t row : left) writer.write(identity(row), line(row), {fails(row), -0.25, 2});
    return left.size();
  }

  /// The same in a process that is killed then.
  void run_killed(unsigned seed, std::uint64_t most) const {
    const pid_t child = ::fork();
    if (child == 0) {
      try {
        ResultWriter writer(request());
        run(writer, seed, most);
        ::kill(::getpid(), SIGKILL);
      } catch (...) {
        ::_exit(1);  // this process is not to go on with the tests
      }
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  }

  void finish_job(unsigned seed) const {
    ResultWriter writer(request());
    run(writer, seed);
    writer.finish();
    EXPECT_EQ(writer.totals().rows, num_rows);
    EXPECT_EQ(writer.totals().failed_rows, num_rows / 5);
    EXPECT_EQ(writer.totals().scored_tokens, 2 * num_rows);
    EXPECT_DOUBLE_EQ(writer.totals().log_probability, -0.25 * num_rows);
  }

  /// Of the journal, what is on the disk before a row is written: its first two lines.
  std::uint64_t base_bytes() const {
    const std::string text = file_text(journal_path(output()));
    return text.find('\n', text.find('\n') + 1) + 1;
  }

  /// Every row once, in order where that is kept, and nothing else.
  void expect_whole() const {
    std::vector<std::string> found = lines_of(unpacked(output())), wanted, found_errors, wanted_errors;
    if (!errors().empty()) found_errors = lines_of(unpacked(errors()));
    for (std::uint64_t row = 1; row <= num_rows; ++row)
      (fails(row) && !errors().empty() ? wanted_errors : wanted).push_back(line(row));
    if (GetParam().order == RowOrder::as_finished)
      for (auto* lines : {&found, &wanted, &found_errors, &wanted_errors}) std::ranges::sort(*lines);
    EXPECT_EQ(found, wanted);
    EXPECT_EQ(found_errors, wanted_errors);
  }

  void expect_complete() const {
    const std::string before = file_text(output());
    const ResultWriter writer(request());
    EXPECT_TRUE(writer.is_complete());
    EXPECT_EQ(writer.totals().failed_rows, num_rows / 5);
    EXPECT_EQ(file_text(output()), before);
  }

  ScratchPlace place_;
};

TEST_P(ResumedOutput, AKilledProcessLosesNoRow) {
  run_killed(1, 7);
  EXPECT_EQ(ResultWriter(request()).totals().rows, 7u);
  run_killed(2, 5);
  EXPECT_EQ(ResultWriter(request()).totals().rows, 12u);
  finish_job(3);
  expect_whole();
  expect_complete();
}

TEST_P(ResumedOutput, EveryNumberOfRows) {
  for (std::uint64_t most = 0; most <= num_rows; most += 3) {
    run_killed(static_cast<unsigned>(most), most);
    finish_job(99);
    expect_whole();
    for (const auto& entry : fs::directory_iterator(place_.path())) fs::remove(entry.path());
  }
}

/// Of files that are not on the disk yet, a power cut leaves any beginning, each its own.
TEST_P(ResumedOutput, APowerCutCostsWorkAlone) {
  std::mt19937 random(7);
  for (int round = 0; round < 20; ++round) {
    run_killed(static_cast<unsigned>(round), random() % (num_rows + 1));
    for (const std::string& file : {output(), errors(), journal_path(output())})
      if (!file.empty() && fs::exists(file) && random() % 3 != 0) {
        const std::uint64_t kept = file.ends_with(".journal") ? base_bytes() : 0, size = fs::file_size(file);
        fs::resize_file(file, kept + random() % (size - kept + 1));
      }
    finish_job(99);
    expect_whole();
    for (const auto& entry : fs::directory_iterator(place_.path())) fs::remove(entry.path());
  }
}

TEST_P(ResumedOutput, BlocksOfZerosAreNoRows) {
  run_killed(1, num_rows - 2);
  for (const std::string& file : {output(), journal_path(output())}) {
    const std::uint64_t size = fs::file_size(file);
    fs::resize_file(file, size * 2 / 3);
    fs::resize_file(file, size);
  }
  finish_job(2);
  expect_whole();
}

TEST_P(ResumedOutput, AStoppedJobGoesOn) {
  {
    ResultWriter writer(request());
    run(writer, 5, 11);
    writer.pause();
    EXPECT_EQ(lines_of(unpacked(output())).size() + (errors().empty() ? 0 : lines_of(unpacked(errors())).size()) < 11,
              GetParam().order == RowOrder::as_read);
  }
  const std::int64_t created = ResultWriter(request()).created();
  EXPECT_GT(created, 0);
  finish_job(6);
  expect_whole();
  EXPECT_EQ(ResultWriter(request()).created(), created);
}

TEST_P(ResumedOutput, WhatWasOnTheDiskAndHasChangedIsNotCut) {
  {
    ResultWriter writer(request());
    run(writer, 5, num_rows - 1);
    writer.pause();
  }
  const std::string whole = file_text(output());
  ASSERT_GT(whole.size(), 4u);
  std::string changed = whole;
  changed[2] = '!';
  for (const std::string& now : {changed, whole.substr(0, whole.size() - 1)}) {
    place_.write(GetParam().name, now);
    try {
      const ResultWriter writer(request());
      ADD_FAILURE() << "nothing was thrown";
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find("--restart"), std::string::npos) << error.what();
    }
    EXPECT_EQ(file_text(output()), now);
  }
  place_.write(GetParam().name, whole);
  finish_job(1);
  expect_whole();
}

TEST_P(ResumedOutput, AnotherJobIsRefusedUnlessItBeginsAnew) {
  run_killed(1, num_rows - 1);
  const std::string before = file_text(output());
  for (const ExistingFile existing : {ExistingFile::refuse, ExistingFile::overwrite}) {
    OutputRequest other = request("another");
    other.existing = existing;
    try {
      const ResultWriter writer(other);
      ADD_FAILURE() << "nothing was thrown";
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find("the input was input, is another"), std::string::npos) << error.what();
    }
  }
  EXPECT_EQ(file_text(output()), before);
  OutputRequest anew = request("another");
  anew.restart = true;
  {
    ResultWriter writer(anew);
    EXPECT_EQ(writer.totals().rows, 0u);
    run(writer, 2);
    writer.finish();
  }
  expect_whole();
  EXPECT_THROW(ResultWriter{request()}, UserError) << "a finished job that differs";
  OutputRequest over = request();
  over.existing = ExistingFile::overwrite;
  ResultWriter writer(over);
  EXPECT_FALSE(writer.is_complete());
  run(writer, 3);
  writer.finish();
  expect_whole();
}

TEST_P(ResumedOutput, AChoiceOfTheRunHolds) {
  {
    ResultWriter writer(request());
    writer.require("--dtype", "float32");
    run(writer, 1, num_rows - 1);
    writer.pause();
  }
  ResultWriter writer(request());
  EXPECT_NO_THROW(writer.require("--dtype", "float32"));
  EXPECT_THROW(writer.require("--dtype", "bfloat16"), UserError);
}

TEST_P(ResumedOutput, ResultsThatWereTakenAwayAreMadeAgain) {
  run_killed(1, num_rows);
  fs::remove(output());
  if (!errors().empty()) fs::remove(errors());
  finish_job(2);
  expect_whole();
}

/// The limit lets a part of a record or of a line through.
TEST_P(ResumedOutput, AFullDiskThatIsMended) {
  for (rlim_t limit = 150; limit < 1500; limit += 97) {
    const pid_t child = ::fork();
    if (child == 0) {
      const rlimit bytes{limit, limit};
      ::signal(SIGXFSZ, SIG_IGN);  // as the program does
      ::setrlimit(RLIMIT_FSIZE, &bytes);
      try {
        ResultWriter writer(request());
        run(writer, 1);
        writer.finish();
      } catch (const UserError& error) {
        ::_exit(error.code() == ExitCode::file ? 6 : 7);
      }
      ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFEXITED(status) && (WEXITSTATUS(status) == 6 || WEXITSTATUS(status) == 0)) << limit;
  }
  finish_job(2);
  expect_whole();
}

INSTANTIATE_TEST_SUITE_P(Forms, ResumedOutput,
                         ::testing::Values(Form{"out.jsonl", "", RowOrder::as_finished},
                                           Form{"out.jsonl", "", RowOrder::as_read},
                                           Form{"out.jsonl", "errors.jsonl", RowOrder::as_finished},
                                           Form{"out.jsonl", "errors.jsonl.gz", RowOrder::as_read},
                                           Form{"out.jsonl.gz", "", RowOrder::as_finished},
                                           Form{"out.jsonl.gz", "", RowOrder::as_read},
                                           Form{"out.jsonl.zst", "", RowOrder::as_finished},
                                           Form{"out.jsonl.zst", "errors.jsonl", RowOrder::as_read}));

}  // namespace
}  // namespace flexgen::test
