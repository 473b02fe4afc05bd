#include "job/output/output_lock.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <utility>

#include "job/file_descriptor.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

/// flock(2) knows it as little as a file on a system without locks.
constexpr int without_locks = -1;

std::optional<OutputLock> take(int fd, const std::string& path) {
  std::string why;
  return OutputLock::take(fd, path, why);
}

TEST(OutputLock, OneHasItAtATime) {
  const ScratchPlace folder;
  const std::string path = folder.write("out", "");
  const auto a = FileDescriptor::owned(::open(path.c_str(), O_WRONLY)),
             b = FileDescriptor::owned(::open(path.c_str(), O_WRONLY));
  const std::optional<OutputLock> first = take(a.get(), path);
  ASSERT_TRUE(first);
  EXPECT_FALSE(first->is_file());
  EXPECT_FALSE(take(b.get(), path));
}

TEST(OutputLock, AFileStandsForItWhereThereAreNoLocks) {
  const ScratchPlace folder;
  const std::string path = folder.file("out");
  {
    std::optional<OutputLock> first = take(without_locks, path);
    ASSERT_TRUE(first);
    EXPECT_TRUE(first->is_file());
    std::string why;
    EXPECT_FALSE(OutputLock::take(without_locks, path, why));
    EXPECT_NE(why.find(std::to_string(::getpid())), std::string::npos) << why;
    const OutputLock moved = std::move(*first);
    EXPECT_FALSE(take(without_locks, path));
  }
  EXPECT_EQ(folder.num_entries(), 0u);
  EXPECT_TRUE(take(without_locks, path));
}

TEST(OutputLock, WhatIsInTheWayIsNoOtherProcess) {
  const ScratchPlace folder;
  std::string why;
  EXPECT_FALSE(OutputLock::take(without_locks, folder.file("missing/out"), why));
  EXPECT_NE(why.find("cannot be made"), std::string::npos) << why;
  EXPECT_EQ(why.find("another process"), std::string::npos) << why;
}

TEST(OutputLock, TheFileOfAProcessThatIsGoneCountsForNothing) {
  const ScratchPlace folder;
  const std::string path = folder.file("out");
  const pid_t child = ::fork();
  if (child == 0) {
    const std::optional<OutputLock> lock = take(without_locks, path);
    ::_exit(lock ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_EQ(status, 0);
  ASSERT_TRUE(std::filesystem::exists(path + ".lock"));
  EXPECT_TRUE(take(without_locks, path));
  EXPECT_EQ(folder.num_entries(), 0u);
}

TEST(OutputLock, OfAnotherHostItCountsForAMinute) {
  const ScratchPlace folder;
  const std::string path = folder.file("out");
  folder.write("out.lock", "elsewhere 1\n");
  EXPECT_FALSE(take(without_locks, path));
  std::array<timespec, 2> times{};
  ::clock_gettime(CLOCK_REALTIME, &times[0]);
  times[0].tv_sec -= 61;
  times[1] = times[0];
  ASSERT_EQ(::utimensat(AT_FDCWD, (path + ".lock").c_str(), times.data(), 0), 0);
  const std::optional<OutputLock> lock = take(without_locks, path);
  EXPECT_TRUE(lock);
  EXPECT_FALSE(take(without_locks, path));
}

}  // namespace
}  // namespace flexgen::test
