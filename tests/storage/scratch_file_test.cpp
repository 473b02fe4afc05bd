// Scratch files hold data, take their disk at once, and leave nothing behind, however the process ends.
#include "storage/scratch_file.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <barrier>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "base/bytes.hpp"
#include "storage/direct_reader.hpp"
#include "storage/scratch_store.hpp"
#include "tests/storage/io_engines.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

bool has_nothing(const std::filesystem::path& directory) { return std::filesystem::is_empty(directory); }

void expect_usable(const std::filesystem::path& directory, ScratchOptions options) {
  const auto queue = IoQueue::make();
  ScratchStore store(directory, 3 * MiB, options);
  const ScratchRegion region = store.allocate(2 * MiB + 77, "test data");
  const auto bytes = make_bytes(2 * MiB + 77, 70);
  region.write(*queue, bytes);
  EXPECT_TRUE(has_nothing(directory)) << "the scratch file has a name";
  std::vector<std::byte> target(bytes.size());
  const ExtentRead read{region.extent(0, bytes.size()), target.data()};
  read_extents(*queue, {&read, 1});
  EXPECT_EQ(target, bytes);
}

TEST(ScratchFile, WorksWithAndWithoutNamelessFilesAndDirectIo) {
  const ScratchPlace place;
  for (const bool nameless : {true, false}) {
    for (const bool direct : {true, false}) {
      SCOPED_TRACE(::testing::Message() << "nameless " << nameless << " direct " << direct);
      expect_usable(place.path(), {nameless, direct});
      EXPECT_TRUE(has_nothing(place.path()));
    }
  }
}

TEST(ScratchFile, WorksInMemoryFileSystems) {
  if (!std::filesystem::is_directory("/dev/shm") || ::access("/dev/shm", W_OK) != 0) {
    GTEST_SKIP() << "no writable memory file system";
  }
  const ScratchPlace place("/dev/shm");
  expect_usable(place.path(), {});
  expect_usable(place.path(), {.nameless = false, .direct = true});
}

TEST(ScratchFile, TakesItsDiskAtOnceForItsUserAlone) {
  const ScratchPlace place;
  const ScratchFile file(place.path(), MiB + 1);
  EXPECT_EQ(file.size_bytes(), MiB + 4096);
  struct stat status {};
  ASSERT_EQ(::fstat(file.handle().fd(), &status), 0);
  EXPECT_EQ(static_cast<std::uint64_t>(status.st_size), MiB + 4096);
  EXPECT_GE(static_cast<std::uint64_t>(status.st_blocks) * 512, MiB + 4096);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  EXPECT_EQ(status.st_nlink, 0u);
}

TEST(ScratchFile, AMissingDirectoryIsMadeAndDoesNotStay) {
  const ScratchPlace place;
  for (const bool nameless : {true, false}) {
    {
      const ScratchFile file(place / "new", 4096, {nameless, true});
      EXPECT_TRUE(has_nothing(place.path())) << "not even while the file is in use";
    }
    const ScratchFile first(place / "new/", 4096, {nameless, true});
    const ScratchFile second(place / "new/", 4096, {nameless, true});
    EXPECT_THROW(ScratchFile(place / "new", std::uint64_t{1} << 42, {nameless, true}), UserError);
    EXPECT_TRUE(has_nothing(place.path()));
  }
}

TEST(ScratchFile, FoldersAboveAreNotMade) {
  const ScratchPlace place;
  const std::string message = user_error(ExitCode::file, [&] { ScratchFile(place / "typo/new", 4096); });
  EXPECT_NE(message.find("typo/new"), std::string::npos) << message;
  EXPECT_NE(message.find("does not exist"), std::string::npos) << message;
  EXPECT_TRUE(has_nothing(place.path()));
}

TEST(ScratchFile, RanksThatMakeAndRemoveOneDirectoryDoNotDisturbEachOther) {
  const ScratchPlace place;
  std::vector<std::jthread> ranks;
  std::atomic<int> num_made{0};
  std::barrier all_there(4);
  for (int rank = 0; rank < 4; ++rank)
    ranks.emplace_back([&, rank] {
      for (int i = 0; i < 50; ++i) {
        {
          const ScratchFile file(place / "new", 4096, {rank % 2 == 0, true});
          ++num_made;
          all_there.arrive_and_wait();  // as in a job, where files stay open until its end
        }
        all_there.arrive_and_wait();
      }
    });
  ranks.clear();
  EXPECT_EQ(num_made, 200);
  EXPECT_TRUE(has_nothing(place.path()));
}

TEST(ScratchFile, TheDefaultPlaceIsTmpdir) {
  const char* before = ::getenv("TMPDIR");
  const std::string kept = before ? before : "";
  ::setenv("TMPDIR", "/some/where", 1);
  EXPECT_EQ(default_offload_directory(), "/some/where");
  ::setenv("TMPDIR", "", 1);
  EXPECT_EQ(default_offload_directory(), "/tmp");
  ::unsetenv("TMPDIR");
  EXPECT_EQ(default_offload_directory(), "/tmp");
  if (before) ::setenv("TMPDIR", kept.c_str(), 1);
}

TEST(ScratchFile, AnUnusableDirectoryIsAUserError) {
  const ScratchPlace place;
  write_file(place / "file", make_bytes(1, 1));
  for (const auto& path : {place / "file", place / "file/below", std::filesystem::path("/proc/flexgen")}) {
    const std::string message = user_error(ExitCode::file, [&] { ScratchFile(path, 4096); });
    EXPECT_NE(message.find(path.string()), std::string::npos) << message;
    EXPECT_NE(message.find("--offload-dir"), std::string::npos) << message;
  }
}

TEST(ScratchFile, MoreThanTheDiskHasDoesNotFit) {
  const ScratchPlace place;
  for (const bool nameless : {true, false}) {
    const std::string message = user_error(ExitCode::does_not_fit, [&] {
      ScratchFile(place.path(), std::uint64_t{1} << 42, {nameless, true});
    });
    EXPECT_NE(message.find("4398046511104 bytes"), std::string::npos) << message;
    EXPECT_TRUE(has_nothing(place.path()));
  }
}

TEST(ScratchFile, TheFileSizeLimitIsSeenBeforeItKills) {
  const ScratchPlace place;
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    int status = 1;
    const struct rlimit limit { 64 * KiB, 64 * KiB };
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(2);
    try {
      ScratchFile(place.path(), MiB);
    } catch (const UserError& error) {
      const bool tells = std::string(error.what()).find("65536 bytes") != std::string::npos;
      status = error.code() == ExitCode::does_not_fit && tells ? 0 : 3;
    } catch (...) {
      status = 4;
    }
    ::_exit(status);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status)) << "killed by signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(ScratchFile, AKilledProcessLeavesNothing) {
  const ScratchPlace place;
  for (const bool nameless : {true, false}) {
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      try {
        const ScratchFile file(place.path(), MiB, {nameless, true});
        if (::write(ready[1], "x", 1) != 1) ::_exit(1);
        for (;;) ::pause();
      } catch (...) {
      }
      ::_exit(1);
    }
    ::close(ready[1]);
    char byte = 0;
    EXPECT_EQ(::read(ready[0], &byte, 1), 1) << "the child could not make its file";
    ::close(ready[0]);
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    EXPECT_TRUE(has_nothing(place.path())) << "nameless " << nameless;
  }
}

TEST(ScratchDirectory, IsPrivateNamesItsProcessAndGoes) {
  const ScratchPlace place;
  std::filesystem::path path;
  {
    ScratchDirectory first(place.path());
    const ScratchDirectory directory = std::move(first);
    path = directory.path();
    EXPECT_EQ(path.parent_path(), place.path());
    EXPECT_EQ(path.filename().string().rfind("flexgen-" + std::to_string(::getpid()) + "-", 0), 0u) << path;
    struct stat status {};
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0700u);
  }
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_TRUE(has_nothing(place.path()));
}

}  // namespace
}  // namespace flexgen::test
