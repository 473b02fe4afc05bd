#include "engine/transfer.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "base/error.hpp"
#include "tests/support/planned_tiers.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

using Bytes = std::vector<std::byte>;

class TransferTest : public ::testing::Test {
 protected:
  Bytes random_bytes(std::size_t count) {
    Bytes bytes(count);
    for (std::byte& value : bytes) value = static_cast<std::byte>(generator_());
    return bytes;
  }

  ScratchPlace scratch_;
  std::mt19937 generator_{11};
  Tracer tracer_{true};
  Stream stream_{"test", Stream::Mode::inline_tasks, Device{}, &tracer_};
  Transfer transfer_{stream_, host_staging(true)};
};

TEST_F(TransferTest, CopiesCountAsTheirResource) {
  const Bytes from = random_bytes(100003);
  Bytes to(from.size());
  transfer_.host_to_gpu(to.data(), from.data(), from.size(), "in");
  EXPECT_EQ(to, from);
  Bytes back(from.size());
  transfer_.gpu_to_host(back.data(), to.data(), to.size(), "out");
  EXPECT_EQ(back, from);
  Bytes beside(from.size());
  transfer_.within_gpu(beside.data(), to.data(), 5000, "beside");
  stream_.synchronize();
  EXPECT_EQ(std::memcmp(beside.data(), from.data(), 5000), 0);
  EXPECT_EQ(beside[5000], std::byte{0});
  std::map<Resource, std::uint64_t> bytes;
  for (const TraceEvent& event : tracer_.events()) bytes[event.resource] += event.bytes;
  EXPECT_EQ(bytes[Resource::host_to_gpu], from.size());
  EXPECT_EQ(bytes[Resource::gpu_to_host], from.size());
  EXPECT_EQ(bytes[Resource::gpu_copy], 5000U);
}

TEST_F(TransferTest, JoinsExtentsOfAnyAlignment) {
  ScratchStore store(scratch_.path(), 1 << 20);
  const ScratchRegion region = store.allocate(300000, "test");
  const Bytes content = random_bytes(300000);
  transfer_.gpu_to_disk(region, content.data(), content.size(), "out");
  const std::pair<std::uint64_t, std::uint64_t> parts[] = {{0, 4096},      {5000, 7},   {4095, 2},
                                                           {8192, 200000}, {299999, 1}, {17, 4096}};
  std::vector<FileExtent> extents;
  Bytes expected;
  for (const auto& [begin, size] : parts) {
    extents.push_back(region.extent(begin, size));
    expected.insert(expected.end(), content.begin() + static_cast<std::ptrdiff_t>(begin),
                    content.begin() + static_cast<std::ptrdiff_t>(begin + size));
  }
  Bytes to(expected.size() + 64, std::byte{0xCD});
  transfer_.disk_to_gpu(to.data(), extents, "in");
  EXPECT_EQ(std::memcmp(to.data(), expected.data(), expected.size()), 0);
  for (std::size_t i = expected.size(); i < to.size(); ++i) ASSERT_EQ(to[i], std::byte{0xCD});
}

TEST_F(TransferTest, AppendsToRegionsAndReadsPrefixes) {
  constexpr std::size_t num_regions = 5, capacity = 30000;
  ScratchStore store(scratch_.path(), num_regions * 32768);
  std::vector<AppendRegion> regions;
  std::vector<Bytes> plain(num_regions);
  for (std::size_t i = 0; i < num_regions; ++i)
    regions.emplace_back(std::make_shared<const ScratchRegion>(store.allocate(capacity, "test")));
  for (int round = 0; round < 20; ++round) {
    std::vector<Bytes> fresh(num_regions);
    std::vector<Transfer::RegionStore> stores;
    for (std::size_t i = 0; i < num_regions; ++i) {
      fresh[i] = random_bytes(1 + generator_() % 1400);
      stores.push_back({&regions[i], fresh[i].data(), fresh[i].size()});
      plain[i].insert(plain[i].end(), fresh[i].begin(), fresh[i].end());
    }
    transfer_.gpu_to_regions(stores, "out");
    std::vector<Bytes> loaded(num_regions);
    std::vector<Transfer::RegionLoad> loads;
    for (std::size_t i = 0; i < num_regions; ++i) {
      loaded[i].assign(1 + generator_() % plain[i].size(), std::byte{0xCD});
      loads.push_back({&regions[i], loaded[i].size(), loaded[i].data()});
    }
    transfer_.regions_to_gpu(loads, "in");
    for (std::size_t i = 0; i < num_regions; ++i)
      ASSERT_EQ(std::memcmp(loaded[i].data(), plain[i].data(), loaded[i].size()), 0)
          << "region " << i << ", round " << round;
  }
}

TEST_F(TransferTest, RefusesToReadPastTheEndOfAFile) {
  ScratchStore store(scratch_.path(), 8192);
  const FileExtent beyond{&store.file(), 8000, 4096};
  Bytes to(4096);
  EXPECT_THROW(transfer_.disk_to_gpu(to.data(), {&beyond, 1}, "in"), UserError);
}

}  // namespace
}  // namespace flexgen::test
