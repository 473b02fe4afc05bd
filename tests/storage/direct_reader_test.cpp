// ExtentReader against plain reads: any offset, size and destination, over all engines.
#include "storage/direct_reader.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/bytes.hpp"
#include "storage/direct_writer.hpp"
#include "storage/scratch_file.hpp"
#include "tests/storage/io_engines.hpp"
#include "tests/support/faulty_io_queue.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

constexpr std::uint64_t file_bytes = 3 * MiB + 1234;  // ends within a block
constexpr std::byte untouched{0xA5};

class ExtentReaderTest : public EngineTest {
 protected:
  void SetUp() override {
    EngineTest::SetUp();
    if (IsSkipped()) return;
    content_ = make_bytes(file_bytes, 11);
    write_file(place_ / "weights", content_);
    file_ = FileHandle::open_read(place_ / "weights", direct());
    reader_ = std::make_unique<ExtentReader>(std::move(queue_));
  }

  // Reads to a place with the given residue modulo 4096; all bytes around it must stay as they are.
  void expect_read(const std::vector<FileExtent>& extents, std::uint64_t residue) {
    std::vector<std::byte> expected;
    for (const FileExtent& extent : extents) {
      const auto begin = content_.begin() + static_cast<std::ptrdiff_t>(extent.offset_bytes);
      expected.insert(expected.end(), begin, begin + static_cast<std::ptrdiff_t>(extent.size_bytes));
    }
    const std::uint64_t guard = direct_alignment;
    AlignedBuffer memory(expected.size() + residue + 2 * guard);
    std::memset(memory.data(), static_cast<int>(untouched), memory.size_bytes());
    std::byte* destination = memory.data() + guard + residue;
    reader_->read(extents, destination);
    ASSERT_TRUE(std::equal(expected.begin(), expected.end(), destination));
    for (std::byte* at = memory.data(); at < memory.data() + memory.size_bytes(); ++at) {
      if (at == destination) at += expected.size();
      ASSERT_EQ(*at, untouched) << "at " << at - destination;
    }
  }

  ScratchPlace place_;
  std::vector<std::byte> content_;
  FileHandle file_;
  std::unique_ptr<ExtentReader> reader_;
};

TEST_P(ExtentReaderTest, EdgesOfBlocksAndOfTheFile) {
  const std::uint64_t last = file_bytes;
  const std::uint64_t cases[][2] = {{0, 1},         {0, 4096},      {4095, 2},          {1, 4095},
                                    {4096, 4096},   {4097, 8190},   {last - 1, 1},      {last - 5000, 5000},
                                    {0, last},      {8, last - 8},  {100, 300'000},     {last, 0},
                                    {4096, 65'536}, {4000, 70'000}, {262'144, 262'145}, {1'000'000, 600'000}};
  for (const auto& [offset, size] : cases) {
    for (const std::uint64_t residue : {std::uint64_t{0}, offset % 4096, std::uint64_t{24}}) {
      SCOPED_TRACE(::testing::Message() << "offset " << offset << " size " << size << " residue " << residue);
      expect_read({{&file_, offset, size}}, residue);
    }
  }
}

TEST_P(ExtentReaderTest, RandomExtentsEqualPlainReads) {
  Numbers numbers(12);
  for (int round = 0; round < 40; ++round) {
    std::vector<FileExtent> extents;
    const std::uint64_t num_extents = 1 + numbers.below(20);
    for (std::uint64_t i = 0; i < num_extents; ++i) {
      const std::uint64_t offset = numbers.below(file_bytes);
      const std::uint64_t limit = numbers.below(4) == 0 ? file_bytes : 20'000;
      extents.push_back({&file_, offset, numbers.below(std::min(file_bytes - offset, limit) + 1)});
    }
    SCOPED_TRACE(::testing::Message() << "round " << round);
    expect_read(extents, numbers.below(4096));
  }
}

TEST_P(ExtentReaderTest, ManyNeighboursAreOneRead) {
  std::vector<FileExtent> extents;
  for (std::uint64_t at = 8; at + 700 <= file_bytes; at += 700) extents.push_back({&file_, at, 700});
  ASSERT_GT(extents.size(), 4000u);
  expect_read(extents, 0);

  auto counting = std::make_unique<FaultyIoQueue>(IoQueue::make_pread(2), ~std::uint64_t{0}, 0);
  const FaultyIoQueue& counter = *counting;
  ExtentReader reader(std::move(counting));
  std::vector<std::byte> target(extents.size() * 700);
  reader.read(extents, target.data());
  EXPECT_LE(counter.num_requests(), file_bytes / BounceArea::slot_bytes + 3);
}

TEST_P(ExtentReaderTest, BeyondTheEndIsRefused) {
  std::vector<std::byte> target(100);
  const std::string message = user_error(ExitCode::file, [&] {
    reader_->read({&file_, file_bytes - 50, 100}, target.data());
  });
  EXPECT_NE(message.find("weights"), std::string::npos) << message;
  EXPECT_NE(message.find("ends at byte 3146962"), std::string::npos) << message;
}

TEST_P(ExtentReaderTest, AFileCutShortAfterOpeningIsAnError) {
  ASSERT_EQ(::truncate((place_ / "weights").c_str(), 1'000'000), 0);
  std::vector<std::byte> target(file_bytes);
  const std::string message = user_error(ExitCode::file, [&] {
    reader_->read({&file_, 10, file_bytes - 10}, target.data());
  });
  EXPECT_NE(message.find("ends at byte 1000000"), std::string::npos) << message;
}

TEST_P(ExtentReaderTest, AFailedReadLeavesTheReaderUsable) {
  auto inner = GetParam().name == std::string("pread") ? IoQueue::make_pread() : IoQueue::make();
  ExtentReader reader(std::make_unique<FaultyIoQueue>(std::move(inner), 0, EIO));
  std::vector<std::byte> target(file_bytes - 8);
  user_error(ExitCode::file, [&] { reader.read({&file_, 8, file_bytes - 8}, target.data()); });
  reader.read({&file_, 8, file_bytes - 8}, target.data());
  EXPECT_EQ(std::memcmp(target.data(), content_.data() + 8, target.size()), 0);
}

TEST_P(ExtentReaderTest, WritesOfAnyAlignmentReadBack) {
  const ScratchFile scratch(place_.path(), 2 * MiB, {.nameless = true, .direct = direct()});
  AlignedBuffer memory(2 * MiB);
  std::memcpy(memory.data(), content_.data(), 2 * MiB);
  const std::uint64_t cases[][3] = {
      // head bytes, offset of the body in memory, body bytes
      {0, 0, 700'000}, {0, 8, 700'000}, {100, 0, 700'000}, {4095, 3, 1}, {17, 1, 0}, {0, 0, 4096}, {0, 0, 5}};
  for (const auto& [head, at, body] : cases) {
    SCOPED_TRACE(::testing::Message() << "head " << head << " at " << at << " body " << body);
    const std::uint64_t size = align_up(head + body, 4096);
    const ExtentWrite write{&scratch.handle(), 8192, size, {content_.data() + MiB, head}, {memory.data() + at, body}};
    write_extents(reader_->queue(), {&write, 1});
    std::vector<std::byte> expected(content_.begin() + MiB, content_.begin() + static_cast<std::ptrdiff_t>(MiB + head));
    expected.insert(expected.end(), memory.data() + at, memory.data() + at + body);
    expected.resize(size);
    std::vector<std::byte> target(size);
    reader_->read({&scratch.handle(), 8192, size}, target.data());
    EXPECT_EQ(std::memcmp(target.data(), expected.data(), size), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Engines, ExtentReaderTest, ::testing::ValuesIn(all_engines), engine_name);

}  // namespace
}  // namespace flexgen::test
