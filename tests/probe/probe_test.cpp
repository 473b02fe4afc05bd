// The probes on the machine at hand: that each gives figures, of what it was asked for. How good they are is the
// machine's affair.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "comm/in_process.hpp"
#include "probe/disk_probe.hpp"
#include "probe/gpu_probe.hpp"
#include "probe/host_traffic.hpp"
#include "probe/link_probe.hpp"
#include "probe/op_probe.hpp"
#include "probe/profile_table.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

TEST(HostTraffic, CountsWhatItsThreadsMove) {
  std::vector<std::byte> memory(4 * MiB);
  fill_host_memory(memory, 2);
  EXPECT_NE(memory.front(), memory[memory.size() / 2]) << "each thread writes bytes of its own";
  for (const HostTrafficKind kind : {HostTrafficKind::read, HostTrafficKind::copy})
    EXPECT_GT(measure_host_traffic(kind, memory, 2, 0.01, 2), 1e6);
}

TEST(HostTraffic, CopiesTheFirstHalfOfItsPart) {
  std::vector<std::byte> memory(2 * MiB);
  std::fill_n(memory.begin(), 1 * MiB, std::byte{7});
  {
    const HostTraffic traffic(HostTrafficKind::copy, memory, 1);
    while (traffic.num_bytes() < 2 * MiB) {
    }
  }
  EXPECT_EQ(memory.back(), std::byte{7});
}

TEST(LinkProbe, EveryRankGetsTheFiguresOfTheTwo) {
  std::vector<LinkProfile> links(3);
  InProcessWorld(3).run([&](Transport& transport, Communicator& ranks) {
    links[static_cast<std::size_t>(ranks.rank())] = measure_link(transport, ranks, 1, Device{}, true);
  });
  EXPECT_EQ(links[0].from, 1);
  EXPECT_EQ(links[0].to, 2);
  EXPECT_GT(links[0].latency_seconds, 0);
  ASSERT_FALSE(links[0].rates.empty());
  for (const CopyRate& rate : links[0].rates) EXPECT_GT(rate.bytes_per_second, 0) << rate.chunk_bytes;
  EXPECT_EQ(links[1], links[0]);
  EXPECT_EQ(links[2], links[0]);
}

TEST(DiskProbe, MeasuresTheFolderAndLeavesNothingInIt) {
  const test::ScratchPlace place;
  const DiskProbeOptions options{16 * MiB, 0.01, 0.05, true};
  std::vector<std::string> said;
  const DiskProfile disk = measure_disk(place.path(), options, [&](std::string_view what) { said.emplace_back(what); });
  EXPECT_EQ(disk.directory, std::filesystem::absolute(place.path()).string());
  EXPECT_EQ(disk.file_bytes, 16 * MiB);
  ASSERT_EQ(disk.read.size(), disk.write.size());
  EXPECT_GT(best_rate(disk.read), 0);
  EXPECT_GT(best_rate(disk.write), 0);
  for (const auto& [bursts, sustained] :
       {std::pair{disk.read, disk.sustained_read}, {disk.write, disk.sustained_write}}) {
    ASSERT_TRUE(sustained);
    EXPECT_GT(sustained->bytes_per_second, 0);
    const DiskRate& best = *std::ranges::max_element(bursts, {}, &DiskRate::bytes_per_second);
    EXPECT_EQ(sustained->block_bytes, best.block_bytes);
    EXPECT_EQ(sustained->queue_depth, best.queue_depth);
  }
  EXPECT_EQ(said.size(), 3U);
  EXPECT_TRUE(std::filesystem::is_empty(place.path()));
}

TEST(DiskProbe, AFileThatIsTooSmallSaysNothingOfADisk) {
  const test::ScratchPlace place;
  try {
    measure_disk(place.path(), {1 * MiB, 0.01, 0.05, true}, [](std::string_view) {});
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::does_not_fit);
  }
}

TEST(OpProbe, MeasuresEveryOpInEveryFormOfItsOperands) {
  std::vector<std::string> said;
  const OpRates ops = measure_ops(Device{}, true, [&](std::string_view what) { said.emplace_back(what); });
  const auto has = [](const auto& rates, DType dtype, int bits) {
    return std::ranges::any_of(rates, [&](const auto& rate) { return rate.dtype == dtype && rate.bits == bits; });
  };
  for (const int bits : {0, 4, 8})
    for (const DType dtype : {DType::float32, DType::bfloat16}) {
      EXPECT_TRUE(has(ops.products, dtype, bits)) << bits;
      EXPECT_TRUE(has(ops.cache_reads, dtype, bits)) << bits;
      EXPECT_TRUE(has(ops.prompts, dtype, bits)) << bits;
    }
  for (const ProductRate& rate : ops.products) EXPECT_GT(rate.operations_per_second, 1e7) << rate.tokens;
  for (const CacheReadRate& rate : ops.cache_reads) EXPECT_GT(rate.bytes_per_second, 1e6) << rate.bits;
  for (const PromptRate& rate : ops.prompts) {
    EXPECT_GT(rate.operations_per_second, 1e7) << rate.bits;
    EXPECT_GT(rate.written_elements_per_second, 1e5) << rate.bits;
  }
  ASSERT_FALSE(ops.norms.empty());
  for (const NormRate& rate : ops.norms) EXPECT_GT(rate.elements_per_second, 1e6);
  EXPECT_EQ(said.size(), 2U);
}

TEST(GpuProbe, WithoutCudaIsAUsageError) {
  if (cuda_compiled()) GTEST_SKIP() << "this build has CUDA";
  try {
    GpuProbe probe(Device{DeviceKind::cuda, 0}, true);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
  }
}

TEST(ProfileTable, NamesWhatWasMeasured) {
  HardwareProfile profile;
  profile.host = "box";
  profile.memory = {4, {{1, 1.25e10}, {4, 9.9e10}}, {{4, 5e10}}, {{DType::float32, 512, 4096, 1.5e12}}, {}};
  EXPECT_NE(profile_table(profile).find("host memory read, GB/s      1 thread 12.5, 4 threads 99"), std::string::npos)
      << profile_table(profile);
  OpRates& ops = profile.memory.ops.emplace();
  ops.products = {{DType::float32, 0, 8, 1024, 8e10},
                  {DType::float32, 0, 8, 4096, 9e10},
                  {DType::float32, 0, 64, 4096, 1.6e11},
                  {DType::float32, 4, 8, 4096, 7e10}};
  ops.cache_reads = {{DType::float32, 4, 512, 1.2e10}};
  const std::string with_ops = profile_table(profile);
  EXPECT_NE(with_ops.find("product float32             8 tokens 0.09, 64 tokens 0.16 TFLOP/s\n"), std::string::npos)
      << with_ops;
  EXPECT_NE(with_ops.find("product float32, 4 bits     8 tokens 0.07 TFLOP/s\n"), std::string::npos) << with_ops;
  EXPECT_NE(with_ops.find("cache float32, 4 bits       512 positions 12 GB/s\n"), std::string::npos) << with_ops;
  profile.disk.emplace().read = {{1048576, 32, 2.9e9}};
  EXPECT_NE(profile_table(profile).find("disk read, GB/s             1024 KiB x 32 2.9\n"), std::string::npos);
  profile.disk->sustained_read = DiskRate{1048576, 32, 2.1e9};
  EXPECT_NE(profile_table(profile).find("1024 KiB x 32 2.9; kept up: 1024 KiB x 32 2.1\n"), std::string::npos);
  EXPECT_EQ(profile_table(profile).find("rank 0"), std::string::npos) << "no links were measured";
  profile.links = {{"mpi", 0, 1, true, 1.5e-5, {{1048576, 3.58e11}}}};
  EXPECT_NE(profile_table(profile).find("rank 0 to 1, mpi, GB/s      1 MiB 358; latency 15 us\n"), std::string::npos)
      << profile_table(profile);
}

}  // namespace
}  // namespace flexgen::test
