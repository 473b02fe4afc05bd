// The contract of an I/O engine, held by io_uring and by the pread pool, direct and buffered.
#include "storage/io_queue.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <set>
#include <stdexcept>

#include "base/bytes.hpp"
#include "storage/file_handle.hpp"
#include "storage/scratch_file.hpp"
#include "tests/storage/io_engines.hpp"
#include "tests/support/faulty_io_queue.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

class IoQueueTest : public EngineTest {
 protected:
  ScratchPlace place_;
};

TEST_P(IoQueueTest, ReadsBackWhatItWroteAndReportsEachRequestOnce) {
  const ScratchFile file(place_.path(), 9 * MiB, {.nameless = true, .direct = direct()});
  const auto expected = make_bytes(9 * MiB, 1);
  AlignedBuffer source(9 * MiB), target(9 * MiB);
  std::memcpy(source.data(), expected.data(), expected.size());
  // Sizes below, at and above the split of 1 MiB.
  const std::uint64_t sizes[] = {4 * KiB, 1 * MiB, 3 * MiB + 8 * KiB, 4 * KiB, 4 * MiB + 1008 * KiB};
  std::vector<IoRequest> writes, reads;
  std::uint64_t offset = 0;
  for (const std::uint64_t size : sizes) {
    writes.push_back({file.handle().fd(), offset, source.data() + offset, size, true});
    reads.push_back({file.handle().fd(), offset, target.data() + offset, size, false});
    offset += size;
  }
  ASSERT_EQ(offset, 9 * MiB);
  std::multiset<std::size_t> written;
  queue_->run(writes, [&](std::size_t index) { written.insert(index); });
  EXPECT_EQ(written, (std::multiset<std::size_t>{0, 1, 2, 3, 4}));
  queue_->run(reads, [&](std::size_t index) {
    EXPECT_EQ(std::memcmp(target.data() + reads[index].offset_bytes, source.data() + reads[index].offset_bytes,
                          reads[index].size_bytes),
              0)
        << "request " << index << " was reported before its bytes were there";
  });
  EXPECT_EQ(std::memcmp(target.data(), expected.data(), expected.size()), 0);
}

TEST_P(IoQueueTest, ManyMoreRequestsThanDepthComplete) {
  write_file(place_ / "blocks", make_bytes(2 * MiB, 2));
  const FileHandle file = FileHandle::open_read(place_ / "blocks", direct());
  AlignedBuffer target(2 * MiB);
  std::vector<IoRequest> reads;
  for (std::uint64_t at = 0; at < 2 * MiB; at += 4 * KiB) reads.push_back({file.fd(), at, target.data() + at, 4 * KiB});
  std::size_t num_done = 0;
  queue_->run(reads, [&](std::size_t) { ++num_done; });
  EXPECT_EQ(num_done, 512u);
  const auto expected = make_bytes(2 * MiB, 2);
  EXPECT_EQ(std::memcmp(target.data(), expected.data(), expected.size()), 0);
}

TEST_P(IoQueueTest, EmptyRequestsAreReportedToo) {
  write_file(place_ / "one", make_bytes(4096, 3));
  const FileHandle file = FileHandle::open_read(place_ / "one", direct());
  AlignedBuffer target(4096);
  const IoRequest reads[] = {{file.fd(), 0, target.data(), 0}, {file.fd(), 0, target.data(), 4096}};
  std::set<std::size_t> done;
  queue_->run(reads, [&](std::size_t index) { done.insert(index); });
  EXPECT_EQ(done, (std::set<std::size_t>{0, 1}));
  queue_->run({}, [](std::size_t) { FAIL(); });
}

TEST_P(IoQueueTest, EndOfFileNamesFileOffsetAndSize) {
  write_file(place_ / "short", make_bytes(10'000, 4));
  const FileHandle file = FileHandle::open_read(place_ / "short", direct());
  AlignedBuffer target(16 * KiB);
  const IoRequest read{file.fd(), 0, target.data(), 12 * KiB};
  const std::string message = user_error(ExitCode::file, [&] { queue_->run({&read, 1}); });
  EXPECT_NE(message.find((place_ / "short").string()), std::string::npos) << message;
  EXPECT_NE(message.find("at byte 10000"), std::string::npos) << message;
  EXPECT_NE(message.find("ends at byte 10000"), std::string::npos) << message;

  IoRequest tolerant = read;
  tolerant.optional_tail_bytes = 12 * KiB - 10'000;
  queue_->run({&tolerant, 1});
  const auto expected = make_bytes(10'000, 4);
  EXPECT_EQ(std::memcmp(target.data(), expected.data(), expected.size()), 0);
}

TEST_P(IoQueueTest, AnErrorIsThrownAndTheQueueStaysUsable) {
  write_file(place_ / "data", make_bytes(64 * KiB, 5));
  const FileHandle file = FileHandle::open_read(place_ / "data", direct());
  AlignedBuffer target(64 * KiB);
  const IoRequest write{file.fd(), 0, target.data(), 4 * KiB, true};  // the file is open for reading only
  const std::string message = user_error(ExitCode::file, [&] { queue_->run({&write, 1}); });
  EXPECT_NE(message.find(errno_text(EBADF)), std::string::npos) << message;
  const IoRequest read{file.fd(), 0, target.data(), 64 * KiB};
  queue_->run({&read, 1});
  const auto expected = make_bytes(64 * KiB, 5);
  EXPECT_EQ(std::memcmp(target.data(), expected.data(), expected.size()), 0);
}

TEST_P(IoQueueTest, WhatACallbackThrowsComesOutAfterDraining) {
  write_file(place_ / "data", make_bytes(4 * MiB, 6));
  const FileHandle file = FileHandle::open_read(place_ / "data", direct());
  AlignedBuffer target(4 * MiB);
  std::vector<IoRequest> reads;
  for (std::uint64_t at = 0; at < 4 * MiB; at += MiB) reads.push_back({file.fd(), at, target.data() + at, MiB});
  EXPECT_THROW(queue_->run(reads, [](std::size_t) { throw std::out_of_range("callback"); }), std::out_of_range);
  std::size_t num_done = 0;
  queue_->run(reads, [&](std::size_t) { ++num_done; });
  EXPECT_EQ(num_done, 4u);
}

TEST_P(IoQueueTest, TheFaultyQueueFailsJustTheChosenRequest) {
  write_file(place_ / "data", make_bytes(64 * KiB, 7));
  const FileHandle file = FileHandle::open_read(place_ / "data", direct());
  AlignedBuffer target(64 * KiB);
  std::vector<IoRequest> reads;
  for (std::uint64_t at = 0; at < 64 * KiB; at += 4 * KiB) {
    reads.push_back({file.fd(), at, target.data() + at, 4 * KiB});
  }
  FaultyIoQueue faulty(std::move(queue_), 9, EIO);
  const std::string message = user_error(ExitCode::file, [&] { faulty.run(reads); });
  EXPECT_NE(message.find("at byte 36864"), std::string::npos) << message;
  EXPECT_NE(message.find(errno_text(EIO)), std::string::npos) << message;
  faulty.run(reads);
  EXPECT_EQ(faulty.num_requests(), 26u);
}

TEST_P(IoQueueTest, ADiskThatFillsUpIsReportedWithNumbers) {
  const ScratchFile file(place_.path(), 64 * KiB, {.nameless = true, .direct = direct()});
  AlignedBuffer source(64 * KiB);
  const IoRequest write{file.handle().fd(), 0, source.data(), 64 * KiB, true};
  FaultyIoQueue full(std::move(queue_), 0, ENOSPC);
  const std::string message = user_error(ExitCode::file, [&] { full.run({&write, 1}); });
  EXPECT_NE(message.find("disk full: 65536 bytes wanted"), std::string::npos) << message;
  EXPECT_NE(message.find("--offload-dir"), std::string::npos) << message;
}

// The limit stands for a full disk: the kernel itself cuts the write short, then refuses it.
TEST_P(IoQueueTest, AWriteBeyondTheFileSizeLimitFailsInTheKernel) {
  const std::string path = (place_ / "limited").string();
  queue_.reset();  // no threads across the fork
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    int status = 1;
    try {
      ::signal(SIGXFSZ, SIG_IGN);
      const struct rlimit limit { 64 * KiB, 64 * KiB };
      if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(2);
      std::string refusal;
      const bool uring = std::string(GetParam().name) == "io_uring";
      auto queue = uring ? IoQueue::make_uring(64, refusal) : IoQueue::make_pread(2);
      const int flags = O_RDWR | O_CREAT | (direct() ? O_DIRECT : 0);
      const FileHandle file(::open(path.c_str(), flags, 0600), path, direct(), 0);
      AlignedBuffer source(128 * KiB);
      const IoRequest write{file.fd(), 0, source.data(), 128 * KiB, true};
      try {
        queue->run({&write, 1});
      } catch (const UserError& error) {
        const bool tells = std::string(error.what()).find("ulimit -f") != std::string::npos;
        status = error.code() == ExitCode::file && tells ? 0 : 3;
      }
    } catch (...) {
      status = 4;
    }
    ::_exit(status);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

INSTANTIATE_TEST_SUITE_P(Engines, IoQueueTest, ::testing::ValuesIn(all_engines), engine_name);

TEST(IoQueue, MakeAlwaysGivesAnEngine) {
  const auto queue = IoQueue::make();
  ASSERT_NE(queue, nullptr);
  EXPECT_TRUE(queue->name() == "io_uring" || queue->name() == "pread");
}

// A ring deeper than any kernel grants is refused everywhere, as every ring is in many containers.
TEST(IoQueue, MakeFallsBackToThreadsWhereTheRingIsRefused) {
  constexpr int too_deep = 100'000;
  std::string refusal;
  EXPECT_EQ(IoQueue::make_uring(too_deep, refusal), nullptr);
  EXPECT_FALSE(refusal.empty());
  const auto queue = IoQueue::make(too_deep);
  EXPECT_EQ(queue->name(), "pread");
  const ScratchPlace place;
  write_file(place / "data", make_bytes(8192, 8));
  const FileHandle file = FileHandle::open_read(place / "data", false);
  std::vector<std::byte> target(8192);
  const IoRequest read{file.fd(), 0, target.data(), 8192};
  queue->run({&read, 1});
  EXPECT_EQ(target, make_bytes(8192, 8));
}

TEST(FileHandle, GoesBufferedWhereDirectIoIsRefused) {
  const FileHandle file = FileHandle::open_read("/proc/self/status", true);
  EXPECT_FALSE(file.direct());
  char three[3];
  EXPECT_EQ(::pread(file.fd(), three, 3, 1), 3);
}

TEST(FileHandle, OpenErrorsNameThePath) {
  const ScratchPlace place;
  const std::string missing = user_error(ExitCode::file, [&] { FileHandle::open_read(place / "missing", true); });
  EXPECT_NE(missing.find((place / "missing").string()), std::string::npos) << missing;
  const std::string directory = user_error(ExitCode::file, [&] { FileHandle::open_read(place.path(), false); });
  EXPECT_NE(directory.find("not a regular file"), std::string::npos) << directory;
}

TEST(FileHandle, MovesCloseExactlyOnce) {
  const ScratchPlace place;
  write_file(place / "a", make_bytes(10, 1));
  int fd = -1;
  {
    FileHandle first = FileHandle::open_read(place / "a", false);
    fd = first.fd();
    const FileHandle second = std::move(first);
    EXPECT_FALSE(first.is_open());
    EXPECT_EQ(second.fd(), fd);
    EXPECT_EQ(second.size_bytes(), 10u);
    EXPECT_NE(::fcntl(fd, F_GETFD), -1);
  }
  EXPECT_EQ(::fcntl(fd, F_GETFD), -1);
}

TEST(FileHandle, StopDirectGoesOnBuffered) {
  const ScratchPlace place;
  write_file(place / "a", make_bytes(10'000, 2));
  FileHandle file = FileHandle::open_read(place / "a", true);
  if (!file.direct()) GTEST_SKIP() << "this file system has no direct I/O";
  file.stop_direct();
  EXPECT_FALSE(file.direct());
  char three[3];
  EXPECT_EQ(::pread(file.fd(), three, 3, 5), 3) << "an unaligned read works only buffered";
}

}  // namespace
}  // namespace flexgen::test
