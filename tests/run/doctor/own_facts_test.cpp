// What a rank sees: file systems and machines that are made up, files that are real.
#include "run/doctor/own_facts.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "base/bytes.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

namespace fs = std::filesystem;

FolderFacts placed(const fs::path& folder) {
  std::istringstream mounts(
      "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw\n"
      "23 22 0:40 / /data rw - nfs4 server:/export rw,vers=4.2\n"
      "24 23 254:1 / /data/fast\\040disk rw - xfs /dev/nvme0n1p1 rw\n"
      "25 22 0:41 / /tmp rw - tmpfs tmpfs rw\n"
      "26 22 254:2 / /tmp rw - btrfs /dev/sdb rw\n");
  FolderFacts facts;
  find_file_system(folder, mounts, facts);
  return facts;
}

TEST(DoctorFacts, TheDeepestMountCounts) {
  EXPECT_EQ(placed("/models/a").kind, "ext4");
  EXPECT_EQ(placed("/data/b").source, "server:/export");
  EXPECT_EQ(placed("/database").kind, "ext4") << "only whole names count";
  EXPECT_EQ(placed("/data/fast disk/c").kind, "xfs");
  EXPECT_EQ(placed("/tmp/flexgen").kind, "btrfs") << "what was mounted last covers the rest";
}

TEST(DoctorFacts, AMachineAndItsControlGroup) {
  const ScratchPlace root;
  for (const char* folder : {"proc/self", "sys/fs/cgroup/job", "sys/kernel/mm/transparent_hugepage"})
    fs::create_directories(root / folder);
  root.write("proc/meminfo", "MemTotal:  8388608 kB\nMemAvailable:  4194304 kB\n");
  root.write("proc/self/cgroup", "0::/job\n");
  root.write("sys/fs/cgroup/job/memory.max", "3221225472\n");
  root.write("sys/fs/cgroup/job/memory.current", "1073741824\n");
  root.write("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
  const MachineFacts facts = look_at_machine(root.path());
  EXPECT_EQ(facts.memory_bytes, 8 * GiB);
  EXPECT_EQ(facts.available_bytes, 2 * GiB);
  EXPECT_EQ(facts.group_memory_bytes, 3 * GiB);
  EXPECT_EQ(facts.huge_pages, "never");
  EXPECT_GE(facts.processors, 1);

  root.write("sys/fs/cgroup/job/memory.max", "max\n");
  EXPECT_FALSE(look_at_machine(root.path()).group_memory_bytes.has_value());
}

TEST(DoctorFacts, ADriverWithoutAProgramForIt) {
  const ScratchPlace root;
  fs::create_directories(root / "proc/driver/nvidia/gpus/0000:3b:00.0");
  root.write("proc/driver/nvidia/version",
             "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build\nGCC version: 12\n");
  root.write("proc/driver/nvidia/gpus/0000:3b:00.0/information", "Model: \t\t NVIDIA H200\nIRQ: 1\n");
  MachineRequest request;
  request.device = "cpu";
  const GpuFacts facts = look_at_gpu(request, NullCommunicator(), root.path());
  EXPECT_EQ(facts.driver, "550.54.15");
  EXPECT_EQ(facts.on_machine, std::vector<std::string>{"0000:3b:00.0 NVIDIA H200"});
  EXPECT_FALSE(facts.own.has_value());
}

TEST(DoctorFacts, ADiskIsTriedAndLeftAsItWas) {
  const ScratchPlace place;
  const DiskFacts tried = look_at_disk(place.path(), DiskSpeed::left_out);
  EXPECT_EQ(tried.folder.problem, "");
  EXPECT_NE(tried.folder.kind, "");
  EXPECT_EQ(tried.read_bytes_per_second, 0);
  EXPECT_EQ(place.num_entries(), 0U);
  place.write("file", "");
  const DiskFacts bad = look_at_disk(place / "file", DiskSpeed::left_out);
  EXPECT_NE(bad.folder.problem, "");
  EXPECT_EQ(bad.folder.problem_code, 6);
}

TEST(DoctorFacts, AnOutputIsLockedBesideIt) {
  const ScratchPlace place;
  const OutputFacts facts = look_at_output(place / "results.jsonl");
  EXPECT_EQ(facts.folder.problem, "");
  EXPECT_EQ(facts.lock, "flock");
  EXPECT_EQ(place.num_entries(), 0U);
  EXPECT_EQ(look_at_output(place / "missing/results.jsonl").folder.problem_code, 6);
}

ModelFacts look_at(const fs::path& model) {
  ModelChoice choice;
  choice.name = model.string();
  return look_at_model(choice);
}

TEST(DoctorFacts, AModelIsKnownByPartsOfItsFiles) {
  const ScratchPlace place;
  const fs::path model = place / "model";
  fs::copy(FLEXGEN_SOURCE_DIR "/configs/demo-model", model);
  const ModelFacts before = look_at(model);
  ASSERT_EQ(before.folder.problem, "");
  EXPECT_NE(before.fingerprint, "");
  const auto weights = [](const ModelFacts& facts) {
    return *std::ranges::find(facts.files, "model.safetensors", &FileFacts::name);
  };
  const std::uint64_t size = weights(before).bytes;
  for (const std::uint64_t offset : {size / 2, size - 1}) {
    {
      std::fstream file(model / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
      file.seekg(static_cast<std::streamoff>(offset));
      const int byte = file.get();
      file.seekp(static_cast<std::streamoff>(offset));
      file.put(static_cast<char>(byte ^ 1));
    }
    EXPECT_NE(weights(look_at(model)).checksum, weights(before).checksum) << offset;
  }
  fs::resize_file(model / "model.safetensors", size / 2);
  const ModelFacts torn = look_at(model);
  EXPECT_NE(torn.folder.problem.find("model.safetensors"), std::string::npos) << torn.folder.problem;
  EXPECT_EQ(torn.folder.problem_code, 3);
  EXPECT_EQ(look_at(place / "nowhere").folder.problem_code, 3);
}

}  // namespace
}  // namespace flexgen::test
