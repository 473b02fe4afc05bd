// StagedReader against plain reads, over all engines.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "base/bytes.hpp"
#include "storage/direct_reader.hpp"
#include "tests/storage/io_engines.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

constexpr std::uint64_t file_bytes = 3 * MiB + 1234;  // ends within a block

class StagedReaderTest : public EngineTest {
 protected:
  void SetUp() override {
    EngineTest::SetUp();
    if (IsSkipped()) return;
    content_ = make_bytes(file_bytes, 12);
    write_file(place_ / "weights", content_);
    file_ = FileHandle::open_read(place_ / "weights", direct());
  }

  bool holds(const std::byte* at, std::uint64_t offset, std::uint64_t size) const {
    return std::memcmp(at, content_.data() + offset, size) == 0;
  }

  ScratchPlace place_;
  std::vector<std::byte> content_;
  FileHandle file_;
};

TEST_P(StagedReaderTest, StagesManyExtentsAtATime) {
  StagedReader reader(std::make_shared<StagingPlaces>(1, 1 * MiB), std::move(queue_));
  struct Wanted {
    std::uint64_t offset, size;
    const std::byte* at;
  };
  for (const std::uint64_t shift : {0, 1, 4095}) {
    reader.clear();
    std::vector<Wanted> all;
    for (const auto& [offset, size] : std::vector<std::pair<std::uint64_t, std::uint64_t>>{{0, 1},
                                                                                           {4096, 4096},
                                                                                           {shift, 70000},
                                                                                           {shift, 70000},
                                                                                           {300000 + shift, 100001},
                                                                                           {file_bytes - 1, 1},
                                                                                           {file_bytes - 5000, 5000},
                                                                                           {shift, 0}}) {
      all.push_back({offset, size, reader.stage({&file_, offset, size})});
      ASSERT_NE(all.back().at, nullptr);
    }
    reader.read();
    for (const Wanted& one : all) EXPECT_TRUE(holds(one.at, one.offset, one.size)) << one.offset << "+" << one.size;
  }
}

TEST_P(StagedReaderTest, RefusesWhatDoesNotFitAndCopiesItInPieces) {
  const auto places = std::make_shared<StagingPlaces>(1, 256 * KiB);
  StagedReader reader(places, std::move(queue_));
  EXPECT_EQ(reader.room_bytes(1), 256 * KiB - 1);
  EXPECT_EQ(reader.stage({&file_, 1, 256 * KiB}), nullptr);
  for (const std::uint64_t offset : {0, 1, 5000}) {
    std::vector<std::byte> all(file_bytes - offset);
    reader.copy({&file_, offset, all.size()}, all.data());
    EXPECT_TRUE(holds(all.data(), offset, all.size())) << offset;
  }
  EXPECT_EQ(places->num_free(), 1U) << "a reader kept its place";
}

TEST_P(StagedReaderTest, PastTheEndOfTheFileIsAnError) {
  const auto places = std::make_shared<StagingPlaces>(1, 256 * KiB);
  StagedReader reader(places, std::move(queue_));
  user_error(ExitCode::file, [&] { reader.stage({&file_, file_bytes - 1, 2}); });
  ASSERT_EQ(::truncate((place_ / "weights").c_str(), 100), 0);
  {
    StagedReader late(places, IoQueue::make());
    late.stage({&file_, 0, 5000});
    user_error(ExitCode::file, [&] { late.read(); });
  }
  EXPECT_EQ(places->num_free(), 1U) << "a reader that failed kept its place";
}

TEST(StagingPlaces, GivesFirstWhatWasGivenBackLastAndMakesOthersWait) {
  StagingPlaces places(2, 4 * KiB);
  AlignedBuffer first = places.take(), second = places.take();
  const std::byte* at = first.data();
  std::atomic<bool> given_back = false;
  std::thread waiting([&] {
    AlignedBuffer third = places.take();
    EXPECT_TRUE(given_back);
    EXPECT_EQ(third.data(), at);
    places.give_back(std::move(third));
  });
  given_back = true;
  places.give_back(std::move(first));
  waiting.join();
  const std::byte* last = second.data();
  places.give_back(std::move(second));
  EXPECT_EQ(places.take().data(), last);
}

INSTANTIATE_TEST_SUITE_P(Engines, StagedReaderTest, ::testing::ValuesIn(all_engines), engine_name);

}  // namespace
}  // namespace flexgen::test
