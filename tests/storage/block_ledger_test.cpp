// Short transfers, interruptions and errors, played to the ledger as a kernel would.
#include "storage/block_ledger.hpp"

#include <cerrno>
#include <deque>

#include "base/bytes.hpp"
#include "tests/storage/io_engines.hpp"

namespace flexgen::test {
namespace {

class ListSource : public IoSource {
 public:
  explicit ListSource(std::vector<IoRequest> requests) : requests_(std::move(requests)) {}
  bool next(IoRequest& request, std::uint64_t& tag) override {
    if (next_ == requests_.size()) return false;
    tag = 100 + next_;
    request = requests_[next_++];
    return true;
  }
  void done(std::uint64_t tag) override { done_.push_back(tag); }

  std::vector<std::uint64_t> done_;

 private:
  std::vector<IoRequest> requests_;
  std::size_t next_ = 0;
};

std::byte memory[4 * MiB];

IoRequest read_of(std::uint64_t offset, std::uint64_t size) { return {7, offset, memory, size}; }

TEST(BlockLedger, SplitsIntoBlocksOfOneMiB) {
  ListSource source({read_of(4096, 2 * MiB + 8192)});
  BlockLedger ledger(8);
  ledger.begin(source);
  const std::uint64_t expected[][2] = {{4096, MiB}, {4096 + MiB, MiB}, {4096 + 2 * MiB, 8192}};
  std::vector<IoBlock*> blocks;
  for (const auto& [offset, size] : expected) {
    IoBlock* block = ledger.next();
    ASSERT_NE(block, nullptr);
    EXPECT_EQ(block->next_offset_bytes(), offset);
    EXPECT_EQ(block->next_size_bytes(), size);
    EXPECT_EQ(block->next_data() - memory, static_cast<std::ptrdiff_t>(offset - 4096));
    blocks.push_back(block);
  }
  EXPECT_EQ(ledger.next(), nullptr);
  for (IoBlock* block : {blocks[2], blocks[0], blocks[1]}) {
    EXPECT_TRUE(source.done_.empty());
    ledger.complete(*block, block->size_bytes);
  }
  EXPECT_EQ(source.done_, std::vector<std::uint64_t>{100});
  EXPECT_TRUE(ledger.idle());
  ledger.rethrow();
}

TEST(BlockLedger, NeverMoreInFlightThanDepth) {
  ListSource source({read_of(0, 3 * MiB), read_of(0, 4096), read_of(0, 4096)});
  BlockLedger ledger(2);
  ledger.begin(source);
  std::deque<IoBlock*> in_flight;
  std::size_t num_blocks = 0;
  for (;;) {
    while (IoBlock* block = ledger.next()) in_flight.push_back(block);
    if (in_flight.empty()) break;
    EXPECT_LE(in_flight.size(), 2u);
    ++num_blocks;
    IoBlock* block = in_flight.front();
    in_flight.pop_front();
    ledger.complete(*block, block->next_size_bytes());
  }
  EXPECT_EQ(num_blocks, 5u);
  EXPECT_EQ(source.done_, (std::vector<std::uint64_t>{100, 101, 102}));
}

TEST(BlockLedger, ARequestIsReportedOnlyWhenItsLastBlockIsDone) {
  ListSource source({read_of(0, 3 * MiB)});
  BlockLedger ledger(1);
  ledger.begin(source);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(source.done_.empty()) << "after block " << i;
    IoBlock* block = ledger.next();
    ASSERT_NE(block, nullptr);
    ledger.complete(*block, block->size_bytes);
  }
  EXPECT_EQ(source.done_, std::vector<std::uint64_t>{100});
}

TEST(BlockLedger, ResumesAShortTransferAtAnAlignedPlace) {
  for (const bool write : {false, true}) {
    IoRequest request = read_of(8192, 64 * KiB);
    request.write = write;
    ListSource source({request});
    BlockLedger ledger(4);
    ledger.begin(source);
    IoBlock* block = ledger.next();
    ledger.complete(*block, 10'000);
    EXPECT_TRUE(source.done_.empty());
    block = ledger.next();
    ASSERT_NE(block, nullptr);
    EXPECT_EQ(block->next_offset_bytes(), 8192u + 8192u);
    EXPECT_EQ(block->next_size_bytes(), 64 * KiB - 8192);
    EXPECT_EQ(block->next_data(), memory + 8192);
    ledger.complete(*block, block->next_size_bytes());
    EXPECT_EQ(source.done_.size(), 1u);
    ledger.rethrow();
  }
}

TEST(BlockLedger, InterruptedBlocksAreTriedAgain) {
  ListSource source({read_of(0, 4096)});
  BlockLedger ledger(1);
  ledger.begin(source);
  for (const int error_number : {EINTR, EAGAIN, EINTR}) {
    IoBlock* block = ledger.next();
    ASSERT_NE(block, nullptr);
    ledger.complete(*block, -error_number);
  }
  IoBlock* block = ledger.next();
  ASSERT_NE(block, nullptr);
  ledger.complete(*block, 4096);
  EXPECT_EQ(source.done_.size(), 1u);
  ledger.rethrow();
}

TEST(BlockLedger, NoProgressIsAnError) {
  ListSource source({read_of(0, 64 * KiB)});
  BlockLedger ledger(1);
  ledger.begin(source);
  ledger.complete(*ledger.next(), 5000);  // a file of 5000 bytes
  ledger.complete(*ledger.next(), 5000 - 4096);
  EXPECT_EQ(ledger.next(), nullptr);
  const std::string message = user_error(ExitCode::file, [&] { ledger.rethrow(); });
  EXPECT_NE(message.find("at byte 5000"), std::string::npos) << message;
}

TEST(BlockLedger, AnErrorStopsNewBlocksAndDrainsTheRest) {
  ListSource source({read_of(0, 4096), read_of(4096, 4096), read_of(8192, 4096)});
  BlockLedger ledger(2);
  ledger.begin(source);
  IoBlock* first = ledger.next();
  IoBlock* second = ledger.next();
  ledger.complete(*first, -EIO);
  EXPECT_EQ(ledger.next(), nullptr);
  EXPECT_FALSE(ledger.idle());
  ledger.complete(*second, 4096);
  EXPECT_TRUE(ledger.idle());
  EXPECT_TRUE(source.done_.empty());
  user_error(ExitCode::file, [&] { ledger.rethrow(); });
}

}  // namespace
}  // namespace flexgen::test
