#include "base/processors.hpp"

#include <gtest/gtest.h>
#include <sched.h>

#include <fstream>
#include <thread>

#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

class Processors : public ::testing::Test {
 protected:
  void put(const std::string& file, const std::string& text) {
    const auto path = root_ / file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  int available() const { return num_available_processors(root_.path()); }

  ScratchPlace root_;
  const int allowed_ = static_cast<int>(allowed_processors().size());
};

TEST_F(Processors, WithoutGroupsThoseThatTheThreadMayRunOn) {
  EXPECT_GE(allowed_, 1);
  EXPECT_EQ(available(), allowed_);
}

TEST_F(Processors, ABoundThreadHasThoseItIsBoundTo) {
  std::thread([&] {
    const std::vector<int> before = allowed_processors();
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<std::size_t>(before.back()), &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    EXPECT_EQ(allowed_processors(), std::vector<int>{before.back()});
    EXPECT_EQ(available(), 1);
  }).join();
}

TEST_F(Processors, Version2ShareOfAnyGroupAboveCounts) {
  if (allowed_ < 2) GTEST_SKIP() << "one processor: nothing can be less";
  put("proc/self/cgroup", "0::/job/step\n");
  put("sys/fs/cgroup/job/step/cpu.max", "max 100000\n");
  EXPECT_EQ(available(), allowed_);
  put("sys/fs/cgroup/job/cpu.max", "50000 100000\n");
  EXPECT_EQ(available(), 1) << "half a processor is one thread";
  put("sys/fs/cgroup/job/cpu.max", "150000 100000\n");
  EXPECT_EQ(available(), 2) << "rounded up";
  put("sys/fs/cgroup/cpu.max", "100000 100000\n");
  EXPECT_EQ(available(), 1) << "the mount point is a group, too: a container's own";
  put("sys/fs/cgroup/cpu.max", "100000000 100000\n");
  EXPECT_EQ(available(), 2) << "more than there is is no limit";
}

TEST_F(Processors, Version1ShareCountsWhereverItsControllersAreMounted) {
  if (allowed_ < 2) GTEST_SKIP() << "one processor: nothing can be less";
  put("proc/self/cgroup", "7:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n");
  put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  EXPECT_EQ(available(), allowed_);
  put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "100000\n");
  EXPECT_EQ(available(), 1);
  put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  put("sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us", "50000\n");
  put("sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us", "40000\n");
  EXPECT_EQ(available(), 1);
}

}  // namespace
}  // namespace flexgen::test
