#include "job/output/result_writer.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <sstream>
#include <thread>

#include "base/error.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

/// The message of the UserError (file) that `action` throws.
template <class Action>
std::string file_error(Action action) {
  try {
    action();
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::file);
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

void put(ResultWriter& writer, std::string_view json) {
  RowIdentity row;
  row.ordinal = writer.totals().rows;
  writer.write(row, json);
}

/// Runs `body` in a child process; its return value is the exit status. A signal gives 1000 + its number.
template <class Body>
int in_child(Body body) {
  const pid_t child = ::fork();
  if (child == 0) {
    int status = 99;
    try {
      status = body();
    } catch (...) {
    }
    ::_exit(status);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

TEST(ResultWriter, EachRowIsThereAsSoonAsItIsWritten) {
  const ScratchPlace folder;
  const std::string path = folder.file("out.jsonl");
  ResultWriter writer({.path = path});
  writer.start();
  EXPECT_EQ(writer.totals().rows, 0u);
  put(writer, "{\"a\":1}");
  EXPECT_EQ(file_text(path), "{\"a\":1}\n");
  put(writer, "{}");
  EXPECT_EQ(file_text(path), "{\"a\":1}\n{}\n");
  EXPECT_EQ(writer.totals().rows, 2u);
  writer.finish();
  writer.finish();
  EXPECT_THROW(put(writer, "{}"), InternalError);
}

TEST(ResultWriter, RefusesToOverwriteUnlessTold) {
  const ScratchPlace folder;
  const std::string path = folder.write("out.jsonl", "precious\n");
  EXPECT_TRUE(has(file_error([&] { ResultWriter({.path = path}); }), "not empty"));
  EXPECT_EQ(file_text(path), "precious\n");
  EXPECT_TRUE(has(file_error([&] { ResultWriter({.path = path}); }), "--overwrite"));
  ResultWriter writer({.path = path, .existing = ExistingFile::overwrite});
  writer.start();
  put(writer, "{}");
  EXPECT_EQ(file_text(path), "{}\n");
  EXPECT_NO_THROW(ResultWriter({.path = folder.write("empty.jsonl", "")}).finish());
}

TEST(ResultWriter, WhatWasThereStaysUntilTheFirstRow) {
  const ScratchPlace folder;
  const std::string path = folder.write("out.jsonl", "precious\n");
  {
    ResultWriter writer({.path = path, .existing = ExistingFile::overwrite});
    put(writer, "{\"error\":1}");
    EXPECT_EQ(file_text(path), "precious\n") << "the job has not begun";
  }
  EXPECT_EQ(file_text(path), "precious\n");
  {
    ResultWriter writer({.path = path, .existing = ExistingFile::overwrite});
    writer.start();
    EXPECT_EQ(file_text(path), "precious\n") << "there is no row yet";
  }
  EXPECT_EQ(file_text(path), "precious\n");
  ResultWriter writer({.path = path, .existing = ExistingFile::overwrite});
  put(writer, "{\"error\":1}");
  EXPECT_EQ(writer.totals().rows, 0u);
  writer.start();
  EXPECT_EQ(file_text(path), "{\"error\":1}\n");
  EXPECT_EQ(writer.totals().rows, 1u);
}

TEST(ResultWriter, AJobWithoutRowsThatSucceedsLeavesAnEmptyFile) {
  const ScratchPlace folder;
  for (const char* before : {"precious\n", ""}) {
    const std::string path = folder.write("out.jsonl", before);
    ResultWriter({.path = path, .existing = ExistingFile::overwrite}).finish();
    EXPECT_EQ(file_text(path), "");
  }
  ResultWriter({.path = folder.file("new.jsonl")}).finish();
  EXPECT_TRUE(std::filesystem::exists(folder.file("new.jsonl")));
}

TEST(ResultWriter, AFileMadeForNothingIsRemoved) {
  const ScratchPlace folder;
  {
    ResultWriter writer({.path = folder.file("out.jsonl")});
    EXPECT_TRUE(std::filesystem::exists(folder.file("out.jsonl"))) << "others see that it is taken";
    EXPECT_EQ(std::filesystem::path(writer.new_file()).filename(), "out.jsonl");
    writer.start();
  }
  EXPECT_EQ(folder.num_entries(), 0u);
  std::filesystem::create_symlink(folder.file("end"), folder.file("link"));
  ResultWriter({.path = folder.file("link")});
  EXPECT_TRUE(std::filesystem::is_symlink(folder.file("link")));
  EXPECT_FALSE(std::filesystem::exists(folder.file("end")));
  const std::string empty = folder.write("empty", "");
  EXPECT_EQ(ResultWriter({.path = empty}).new_file(), "");
  EXPECT_TRUE(std::filesystem::exists(empty)) << "it was there before";
  {
    ResultWriter writer({.path = folder.file("kept.jsonl")});
    writer.start();
    put(writer, "{}");
  }
  EXPECT_EQ(file_text(folder.file("kept.jsonl")), "{}\n");
}

// Jobs that fail remove the file that they made, while others take it: nobody may hold one without a name.
TEST(ResultWriter, FilesThatComeAndGoAreNotLost) {
  const ScratchPlace folder;
  const std::string path = folder.file("out.jsonl");
  std::atomic<int> num_written{0};
  std::vector<std::jthread> jobs;
  for (int t = 0; t < 4; ++t)
    jobs.emplace_back([&, t] {
      for (int i = 0; i < 3000; ++i) {
        try {
          ResultWriter writer({.path = path, .existing = ExistingFile::overwrite});
          if (i % 2 == t % 2) continue;  // fails before its first row
          writer.start();
          put(writer, "{}");
          EXPECT_EQ(file_text(path), "{}\n");
          std::filesystem::remove(path);
          ++num_written;
        } catch (const UserError& error) {
          EXPECT_TRUE(has(error.what(), "another process")) << error.what();
        }
      }
    });
  jobs.clear();
  EXPECT_GE(num_written, 1);
}

/// A writer of two rows, after which `change` is done to its file: the message of the next row's error.
std::string error_after(const ScratchPlace& folder, const std::function<void(const std::string&)>& change) {
  const std::string path = folder.file("out.jsonl");
  ResultWriter writer({.path = path, .existing = ExistingFile::overwrite});
  writer.start();
  put(writer, "{}");
  put(writer, "{}");
  change(path);
  std::string message = file_error([&] { put(writer, "{}"); });
  EXPECT_EQ(message, file_error([&] { put(writer, "{}"); })) << "the first error stays";
  EXPECT_TRUE(has(message, "cannot write row 3") && has(message, "may be lost")) << message;
  return message;
}

TEST(ResultWriter, AFileThatOthersTakeAwayOrChangeIsNoticed) {
  namespace fs = std::filesystem;
  const ScratchPlace folder;
  EXPECT_TRUE(has(error_after(folder, [](const std::string& path) { fs::remove(path); }), "deleted"));
  EXPECT_EQ(folder.num_entries(), 0u) << "it is not made again";
  EXPECT_TRUE(has(error_after(folder, [](const std::string& path) { fs::rename(path, path + "1"); }), "moved"));
  const auto replace = [&](const std::string& path) { fs::rename(folder.write("other", "x"), path); };
  EXPECT_TRUE(has(error_after(folder, replace), "another file"));
  EXPECT_EQ(file_text(folder.file("out.jsonl")), "x");
  const auto cut = [](const std::string& path) { fs::resize_file(path, 1); };
  EXPECT_TRUE(has(error_after(folder, cut), "from 6 to 1 bytes"));
  EXPECT_EQ(file_text(folder.file("out.jsonl")), "{") << "no hole is written";
  const auto append = [](const std::string& path) { std::ofstream(path, std::ios::app) << "x"; };
  EXPECT_TRUE(has(error_after(folder, append), "another program has written"));
}

TEST(ResultWriter, FinishNoticesItToo) {
  const ScratchPlace folder;
  ResultWriter writer({.path = folder.file("out.jsonl")});
  writer.start();
  put(writer, "{}");
  std::filesystem::remove(folder.file("out.jsonl"));
  EXPECT_TRUE(has(file_error([&] { writer.finish(); }), "deleted"));
}

// Somebody else's job may have filled the file while this one was loading.
TEST(ResultWriter, AFileThatIsFilledBeforeTheStartIsRefused) {
  const ScratchPlace folder;
  const std::string path = folder.write("out.jsonl", "");
  ResultWriter writer({.path = path});
  std::ofstream(path) << "precious\n";
  put(writer, "{}");
  EXPECT_TRUE(has(file_error([&] { writer.start(); }), "another program has written"));
  EXPECT_EQ(file_text(path), "precious\n");
}

TEST(ResultWriter, OneWriterPerFile) {
  const ScratchPlace folder;
  ResultWriter first({.path = folder.file("out.jsonl")});
  first.start();
  put(first, "{\"row\":1}");
  EXPECT_TRUE(
      has(file_error([&] { ResultWriter({.path = folder.file("out.jsonl"), .existing = ExistingFile::overwrite}); }),
          "another process"));
  EXPECT_EQ(file_text(folder.file("out.jsonl")), "{\"row\":1}\n");
}

TEST(ResultWriter, PathsThatCannotBeOpened) {
  const ScratchPlace folder;
  EXPECT_TRUE(has(file_error([&] { ResultWriter({.path = folder.file("")}); }), "cannot open"));
  const std::string file = folder.write("file", "x");
  EXPECT_TRUE(has(file_error([&] { ResultWriter({.path = file + "/out.jsonl"}); }), "'" + file + "' is no folder"));
  const std::string message = file_error([&] { ResultWriter({.path = folder.file("typo/out.jsonl")}); });
  EXPECT_TRUE(has(message, "there is no folder '" + folder.file("typo") + "'")) << message;
  EXPECT_EQ(folder.num_entries(), 1u) << "no folder is made";
}

TEST(ResultWriter, RefusesLinesWithNewlines) {
  const ScratchPlace folder;
  ResultWriter writer({.path = folder.file("out")});
  writer.start();
  EXPECT_THROW(put(writer, "{}\n{}"), InternalError);
  EXPECT_EQ(file_text(folder.file("out")), "");
}

TEST(ResultWriter, FullDevice) {
  if (::access("/dev/full", W_OK) != 0) GTEST_SKIP() << "no /dev/full on this system";
  ResultWriter writer({.path = "/dev/full"});
  writer.start();
  const std::string message = file_error([&] { put(writer, "{}"); });
  EXPECT_TRUE(has(message, "cannot write row 1 to '/dev/full'")) << message;
  EXPECT_TRUE(has(message, "0 finished rows are safe")) << message;
}

// The limit lets a part of the third row through: it must be taken back, and no signal may kill the process.
TEST(ResultWriter, HalfARowIsTakenBack) {
  const ScratchPlace folder;
  const std::string path = folder.file("out.jsonl");
  const std::string row = "{\"text\":\"" + std::string(30, 'x') + "\"}";  // 41 bytes, 42 with newline
  EXPECT_EQ(in_child([&] {
              const rlimit limit{100, 100};
              ::setrlimit(RLIMIT_FSIZE, &limit);
              ResultWriter writer({.path = path});
              writer.start();
              put(writer, row);
              put(writer, row);
              for (int attempt = 0; attempt < 2; ++attempt) {  // the second time the writer refuses at once
                const std::string message = file_error([&] { put(writer, row); });
                if (!has(message, "cannot write row 3") || !has(message, "2 finished rows are safe")) return 1;
              }
              return 0;
            }),
            0);
  EXPECT_EQ(file_text(path), row + "\n" + row + "\n");
}

// Standard output that is appended to a file (>> out): what stood there before is not ours to cut.
TEST(ResultWriter, StandardOutputInAFileKeepsWhatWasThere) {
  const ScratchPlace folder;
  const std::string path = folder.write("log", "before\n");
  EXPECT_EQ(in_child([&] {
              ::dup2(::open(path.c_str(), O_WRONLY | O_APPEND), STDOUT_FILENO);
              const rlimit limit{20, 20};
              ::setrlimit(RLIMIT_FSIZE, &limit);
              ResultWriter writer({.path = "-"});
              writer.start();
              put(writer, "{}");
              const std::string message = file_error([&] { put(writer, "{\"text\":\"much too long\"}"); });
              return has(message, "standard output") && has(message, "1 finished row is safe") ? 0 : 1;
            }),
            0);
  EXPECT_EQ(file_text(path), "before\n{}\n");
}

TEST(ResultWriter, ClosedPipe) {
  EXPECT_EQ(in_child([] {
              int ends[2];
              if (::pipe(ends) != 0) return 1;
              ::dup2(ends[1], STDOUT_FILENO);
              ResultWriter writer({.path = "-"});
              writer.start();
              put(writer, "{}");
              ::close(ends[0]);
              const std::string message = file_error([&] { put(writer, "{}"); });
              if (!has(message, "has ended") || !has(message, "1 finished row is safe")) return 2;
              writer.finish();
              return 0;
            }),
            0);
}

TEST(ResultWriter, RowsOfASweepLeaveTheProcessTogether) {
  const ScratchPlace folder;
  const std::string path = folder.file("out.jsonl");
  ResultWriter writer({.path = path, .flush = FlushRule::when_told});
  writer.start();
  put(writer, "{\"row\":1}");
  put(writer, "{\"row\":2}");
  EXPECT_EQ(file_text(path), "");
  writer.flush();
  EXPECT_EQ(file_text(path), "{\"row\":1}\n{\"row\":2}\n");
  put(writer, "{\"row\":3}");
  writer.finish();
  EXPECT_EQ(file_text(path), "{\"row\":1}\n{\"row\":2}\n{\"row\":3}\n");
}

TEST(ResultWriter, ThreadsDoNotMixRows) {
  const ScratchPlace folder;
  const std::string path = folder.file("out.jsonl");
  ResultWriter writer({.path = path});
  writer.start();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&writer, t] {
      for (int i = 0; i < 200; ++i) put(writer, std::to_string(t * 1000 + i) + std::string(50, '.'));
    });
  for (auto& thread : threads) thread.join();
  writer.finish();
  EXPECT_EQ(writer.totals().rows, 800u);
  std::istringstream text(file_text(path));
  std::set<std::string> rows;
  for (std::string line; std::getline(text, line);) {
    EXPECT_TRUE(line.ends_with(std::string(50, '.')));
    rows.insert(line);
  }
  EXPECT_EQ(rows.size(), 800u);
}

}  // namespace
}  // namespace flexgen::test
