#include "storage/host_memory.hpp"

#include <cstring>
#include <fstream>

#include "base/bytes.hpp"
#include "storage/aligned_buffer.hpp"
#include "tests/storage/io_engines.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

class HostMemory : public ::testing::Test {
 protected:
  void put(const std::string& file, const std::string& text) {
    const auto path = root_ / file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  void SetUp() override { put("proc/meminfo", "MemTotal:  2000000 kB\nMemAvailable:    1000000 kB\n"); }

  ScratchPlace root_;
};

TEST_F(HostMemory, WithoutGroupsItIsMemAvailable) { EXPECT_EQ(available_host_bytes(root_.path()), 1'000'000 * KiB); }

TEST_F(HostMemory, Version2LimitOfAnyGroupAboveCounts) {
  put("proc/self/cgroup", "0::/job/step\n");
  put("sys/fs/cgroup/job/memory.max", "600000000\n");
  put("sys/fs/cgroup/job/memory.current", "200000000\n");
  put("sys/fs/cgroup/job/memory.stat", "anon 100000000\ninactive_file 50000000\n");
  put("sys/fs/cgroup/job/step/memory.max", "max\n");
  EXPECT_EQ(available_host_bytes(root_.path()), 450'000'000u);
  put("sys/fs/cgroup/job/memory.current", "900000000\n");
  EXPECT_EQ(available_host_bytes(root_.path()), 0u);
}

TEST_F(HostMemory, Version1LimitCountsAlsoWhereThePathIsTheHosts) {
  put("proc/self/cgroup", "7:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n");
  put("sys/fs/cgroup/memory/memory.limit_in_bytes", "500000000\n");
  put("sys/fs/cgroup/memory/memory.usage_in_bytes", "100000000\n");
  put("sys/fs/cgroup/memory/memory.stat", "total_inactive_file 0\n");
  EXPECT_EQ(available_host_bytes(root_.path()), 400'000'000u);
  put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");  // the kernel's "none"
  EXPECT_EQ(available_host_bytes(root_.path()), 1'000'000 * KiB);
}

TEST_F(HostMemory, MissingProcIsAnError) { EXPECT_THROW(available_host_bytes(root_ / "nowhere"), SystemError); }

TEST(ThisMachine, NumbersArePlausible) {
  EXPECT_GT(available_host_bytes(), 16 * MiB);
  const ScratchPlace place;
  EXPECT_GT(free_disk_bytes(place.path()), 0u);
  EXPECT_GT(free_disk_bytes(place / "not/yet/there"), 0u);

  const std::uint64_t before = resident_set_bytes();
  {
    const AlignedBuffer memory(64 * MiB);
    std::memset(memory.data(), 1, memory.size_bytes());
    EXPECT_GE(resident_set_bytes(), before + 60 * MiB);
  }
  EXPECT_GE(peak_resident_set_bytes(), before + 60 * MiB);
}

}  // namespace
}  // namespace flexgen::test
