// What the doctor makes of facts: a fleet in which nothing is wrong, and one thing after another that is.
#include "run/doctor/judge.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/run/doctor/made_up_ranks.hpp"

namespace flexgen::test {
namespace {

using Findings = std::vector<Finding>;

std::string text_of(const Findings& findings) {
  std::string text;
  for (const Finding& one : findings)
    text += std::string(level_name(one.level)) + " " + one.what + ": " + one.why + ". " + one.what_to_do + "\n";
  return text;
}

// Exactly one finding, of this level, about these ranks, that says all of `words`.
void expect_one(const Findings& findings, FindingLevel level, const std::vector<int>& ranks,
                const std::vector<std::string>& words) {
  ASSERT_EQ(findings.size(), 1U) << text_of(findings);
  EXPECT_EQ(findings[0].level, level) << text_of(findings);
  EXPECT_EQ(findings[0].ranks, ranks) << text_of(findings);
  EXPECT_EQ(findings[0].exit_code != 0, level == FindingLevel::fault);
  for (const std::string& word : words)
    EXPECT_NE(text_of(findings).find(word), std::string::npos) << "'" << word << "' in " << text_of(findings);
}

OwnGpu gpu_at(const std::string& bus) { return {"A GPU (sm_90)", bus, 90, 70 * GiB, 80 * GiB}; }

std::vector<RankFacts> ranks_with_gpus(const std::vector<std::string>& hosts, const std::vector<std::string>& buses) {
  std::vector<RankFacts> ranks = sound_ranks(hosts);
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    ranks[r].gpu.compiled = true;
    ranks[r].gpu.compiled_for = "75 80 90";
    ranks[r].gpu.driver = "550.54.15";
    ranks[r].gpu.num_visible = 1;
    ranks[r].gpu.own = gpu_at(buses[r]);
  }
  return ranks;
}

TEST(DoctorJudge, FindsNothingWhereNothingIsWrong) {
  for (const auto& ranks :
       {sound_ranks({"a"}), sound_ranks({"a", "a", "b"}), ranks_with_gpus({"a", "a"}, {"1", "2"})}) {
    EXPECT_EQ(text_of(judge_program(ranks)), "");
    EXPECT_EQ(text_of(judge_launch(ranks)), "");
    EXPECT_EQ(text_of(judge_machine(ranks)), "");
    EXPECT_EQ(text_of(judge_gpu(ranks, {})), "");
    EXPECT_EQ(text_of(judge_disk(ranks)), "");
    EXPECT_EQ(text_of(judge_model(ranks)), "");
    EXPECT_EQ(text_of(judge_network(ranks)), "");
  }
}

TEST(DoctorJudge, ProgramsThatDiffer) {
  auto ranks = sound_ranks({"a", "b", "c"});
  ranks[1].program.version = "0.1.0 (def)";
  expect_one(judge_program(ranks), FindingLevel::fault, {},
             {"0.1.0 (def) on rank 1 on b", "0.1.0 (abc) on ranks 0 (a) and 2 (c)"});
  EXPECT_EQ(judge_program(ranks)[0].exit_code, 5);
  ranks[1].program.version = ranks[0].program.version;
  ranks[2].program.mpi = "MPICH 4.0";
  expect_one(judge_program(ranks), FindingLevel::warning, {}, {"MPICH 4.0 on rank 2 on c"});
}

TEST(DoctorJudge, ProgramsBuiltElsewhere) {
  auto ranks = sound_ranks({"a", "b"});
  ranks[0].program.built_glibc = ranks[1].program.built_glibc = "2.38";
  ranks[1].program.glibc = "2.39";
  expect_one(judge_program(ranks), FindingLevel::warning, {0}, {"glibc 2.38", "2.36"});
  ranks = sound_ranks({"a", "b"});
  ranks[0].program.kernels = ranks[1].program.kernels = "avx2";
  expect_one(judge_program(ranks), FindingLevel::note, {0, 1}, {"AVX-512"});
  ranks[0].program.kernels = ranks[1].program.kernels = "baseline";
  expect_one(judge_program(ranks), FindingLevel::warning, {0, 1}, {"AVX2"});
  ranks = sound_ranks({"a", "b"});
  ranks[1].program.kernels = "avx512_bf16";
  expect_one(judge_program(ranks), FindingLevel::warning, {}, {"avx512_bf16 on rank 1 on b"});
  ranks = sound_ranks({"a"});
  ranks[0].program.optimised = false;
  expect_one(judge_program(ranks), FindingLevel::warning, {0}, {"Release"});
}

TEST(DoctorJudge, HowRanksAreStarted) {
  auto ranks = sound_ranks({"a"});
  ranks[0].launch.batch_tasks = 4;
  expect_one(judge_launch(ranks), FindingLevel::warning, {0}, {"Slurm job of 4", "srun --mpi=pmix"});
  ranks = sound_ranks({"a", "b"});
  ranks[1].launch.boot = ranks[0].launch.boot;
  expect_one(judge_launch(ranks), FindingLevel::warning, {0, 1}, {"containers", "--cpu-mem"});
  ranks = sound_ranks({"a", "b"});
  ranks[1].launch.host = "a";
  expect_one(judge_launch(ranks), FindingLevel::warning, {0, 1}, {"called 'a'"});
  ranks = sound_ranks({"a", "a", "a"});
  for (RankFacts& rank : ranks)
    rank.machine.processors = rank.machine.processors_allowed = rank.machine.processors_available = 2;
  expect_one(judge_launch(ranks), FindingLevel::warning, {0, 1, 2}, {"3 ranks share 2"});
  ranks = sound_ranks({"a", "b"});
  ranks[1].machine.processors_allowed = ranks[1].machine.processors_available = 1;
  expect_one(judge_launch(ranks), FindingLevel::warning, {1}, {"1 of 8", "--bind-to none"});
  ranks[1].machine.processors_allowed = 8;
  expect_one(judge_launch(ranks), FindingLevel::note, {1}, {"control group"});
}

TEST(DoctorJudge, MemoryAndLimits) {
  auto ranks = sound_ranks({"a", "b"});
  ranks[1].machine.locked_bytes = 64 * KiB;
  expect_one(judge_machine(ranks), FindingLevel::warning, {1}, {"64", "ulimit -l unlimited"});
  auto alone = sound_ranks({"a"});
  alone[0].machine.locked_bytes = 64 * KiB;
  expect_one(judge_machine(alone), FindingLevel::note, {0}, {"lock"});
  alone = sound_ranks({"a"});
  alone[0].machine.group_memory_bytes = 4 * GiB;
  expect_one(judge_machine(alone), FindingLevel::note, {0}, {"4.00 GiB of 64.00 GiB"});
  alone = sound_ranks({"a", "a", "a", "a"});
  alone[2].machine.available_bytes = 2 * GiB;
  expect_one(judge_machine(alone), FindingLevel::warning, {2}, {"512.00 MiB"});
  alone = sound_ranks({"a"});
  alone[0].machine.open_files = 256;
  expect_one(judge_machine(alone), FindingLevel::warning, {0}, {"256", "ulimit -n"});
  alone = sound_ranks({"a"});
  alone[0].machine.huge_pages = "never";
  expect_one(judge_machine(alone), FindingLevel::note, {0}, {"madvise"});
  alone = sound_ranks({"a"});
  alone[0].machine.address_bytes = 8 * GiB;
  expect_one(judge_machine(alone), FindingLevel::warning, {0}, {"ulimit -v"});
}

TEST(DoctorJudge, TwoRanksOnOneGpu) {
  auto ranks = ranks_with_gpus({"a", "a", "b"}, {"0000:3b:00.0", "0000:3b:00.0", "0000:3b:00.0"});
  expect_one(judge_gpu(ranks, {}), FindingLevel::warning, {0, 1}, {"0000:3b:00.0", "NCCL"});
  // In two containers of one machine neither knows of the other.
  ranks = ranks_with_gpus({"a", "b"}, {"0000:3b:00.0", "0000:3b:00.0"});
  ranks[1].launch.boot = ranks[0].launch.boot;
  expect_one(judge_gpu(ranks, {}), FindingLevel::fault, {0, 1}, {"--gpu-mem"});
  EXPECT_EQ(judge_gpu(ranks, {})[0].exit_code, 4);
  MachineRequest budgets;
  budgets.gpu_mem = 10 * GiB;
  expect_one(judge_gpu(ranks, budgets), FindingLevel::warning, {0, 1}, {"share the GPU"});
}

TEST(DoctorJudge, GpusThatAreNotUsed) {
  auto ranks = sound_ranks({"a"});
  ranks[0].gpu.driver = "550.54.15";
  expect_one(judge_gpu(ranks, {}), FindingLevel::warning, {0}, {"without CUDA"});
  MachineRequest request;
  request.device = "cpu";
  EXPECT_EQ(text_of(judge_gpu(ranks, request)), "") << "that is what was asked for";
  request.device = "cuda";
  expect_one(judge_gpu(ranks, request), FindingLevel::fault, {0}, {"without CUDA"});
  ranks[0].gpu.compiled = true;
  ranks[0].gpu.problem = "CUDA driver version is insufficient for CUDA runtime version";
  expect_one(judge_gpu(ranks, {}), FindingLevel::warning, {0}, {"insufficient", "550.54.15"});
  ranks = ranks_with_gpus({"a", "b"}, {"1", "1"});
  ranks[1].gpu = {};
  expect_one(judge_gpu(ranks, {}), FindingLevel::fault, {}, {"cpu on rank 1 on b"});
}

TEST(DoctorJudge, GpusForWhichThereIsNoCode) {
  auto ranks = ranks_with_gpus({"a"}, {"1"});
  ranks[0].gpu.own->capability = 70;
  expect_one(judge_gpu(ranks, {}), FindingLevel::fault, {0}, {"75 80 90", "CMAKE_CUDA_ARCHITECTURES=70"});
  ranks[0].gpu.own->capability = 120;
  expect_one(judge_gpu(ranks, {}), FindingLevel::warning, {0}, {"driver compiles"});
  ranks[0].gpu.own->capability = 86;
  EXPECT_EQ(text_of(judge_gpu(ranks, {})), "") << "code for 80 runs there";
  ranks[0].gpu.own->free_bytes = 10 * GiB;
  expect_one(judge_gpu(ranks, {}), FindingLevel::warning, {0}, {"another program"});
}

TEST(DoctorJudge, WhereScratchFilesGo) {
  auto ranks = sound_ranks({"a", "b"});
  ranks[1].disk.folder.kind = "nfs4";
  ranks[1].disk.folder.source = "server:/export";
  expect_one(judge_disk(ranks), FindingLevel::warning, {1}, {"nfs4", "server:/export", "--offload-dir"});
  ranks[1].disk.folder.kind = "tmpfs";
  ranks[1].disk.direct = false;
  expect_one(judge_disk(ranks), FindingLevel::warning, {1}, {"tmpfs", "memory"});
  ranks[1].disk.folder.kind = "overlay";
  ranks[1].disk.direct = true;
  expect_one(judge_disk(ranks), FindingLevel::note, {1}, {"container"});
  ranks = sound_ranks({"a", "b"});
  ranks[0].disk.direct = false;
  expect_one(judge_disk(ranks), FindingLevel::note, {0}, {"page cache"});
  ranks = sound_ranks({"a", "b"});
  ranks[0].disk.uring_refusal = "Operation not permitted";
  expect_one(judge_disk(ranks), FindingLevel::note, {0}, {"io_uring", "not permitted"});
  ranks = sound_ranks({"a", "b"});
  ranks[1].disk.write_bytes_per_second = 50e6;
  expect_one(judge_disk(ranks), FindingLevel::warning, {1}, {"writes 50 MB/s"});
  ranks = sound_ranks({"a", "b"});
  ranks[1].disk.folder.problem = "no file can be made";
  ranks[1].disk.folder.problem_code = 6;
  expect_one(judge_disk(ranks), FindingLevel::fault, {1}, {"no file can be made"});
  for (const char* kind : {"nfs", "lustre", "cifs", "fuse.sshfs"}) EXPECT_TRUE(is_network_file_system(kind)) << kind;
  for (const char* kind : {"ext4", "xfs", "overlay", "fuse.ntfs", "fuseblk", ""})
    EXPECT_FALSE(is_network_file_system(kind)) << kind;
}

TEST(DoctorJudge, WhereResultsGo) {
  auto ranks = sound_ranks({"a", "b"});
  ranks[0].output = OutputFacts{{"/results", "xfs", "/dev/sda", 10 * GiB}, "flock"};
  EXPECT_EQ(text_of(judge_output(ranks)), "");
  ranks[0].output->lock = "";
  expect_one(judge_output(ranks), FindingLevel::warning, {0}, {"/results", "one job at a time"});
  ranks[0].output->lock = "file";
  expect_one(judge_output(ranks), FindingLevel::note, {0}, {"OUTPUT.lock"});
  ranks[0].output->lock = "flock";
  ranks[0].output->folder.free_bytes = MiB;
  expect_one(judge_output(ranks), FindingLevel::warning, {0}, {"1.00 MiB"});
}

TEST(DoctorJudge, ModelsThatDiffer) {
  const auto sound = sound_ranks({"a", "b", "c"});
  auto ranks = sound;
  ranks[2].model->files[1].bytes = 8000;
  expect_one(judge_model(ranks), FindingLevel::fault, {2}, {"rank 0 on a", "'model.safetensors' has 8000 bytes"});
  EXPECT_EQ(judge_model(ranks)[0].exit_code, 3);
  ranks = sound;
  ranks[1].model->files[0].checksum = 7;
  expect_one(judge_model(ranks), FindingLevel::fault, {1}, {"'config.json' has another content"});
  ranks = sound;
  ranks[1].model->files.pop_back();
  expect_one(judge_model(ranks), FindingLevel::fault, {1}, {"'model.safetensors' is missing"});
  ranks = sound;
  ranks[1].model->files.push_back({"tokenizer.json", 5, 5});
  expect_one(judge_model(ranks), FindingLevel::fault, {1}, {"'tokenizer.json' is one file more"});
  ranks[1].model->files[0].checksum = 7;
  expect_one(judge_model(ranks), FindingLevel::fault, {1}, {"'tokenizer.json' is one file more"});
  ranks = sound;
  ranks[1].model->fingerprint = "another";
  expect_one(judge_model(ranks), FindingLevel::fault, {1}, {"another model"});
  ranks = sound;
  ranks[1].model.reset();
  expect_one(judge_model(ranks), FindingLevel::fault, {1}, {"--model"});
  ranks = sound;
  ranks[1].model->folder.problem = "no model in '/models/a'";
  ranks[1].model->folder.problem_code = 3;
  expect_one(judge_model(ranks), FindingLevel::fault, {1}, {"no model"});
  ranks = sound;
  ranks[2].model->folder.kind = "nfs4";
  expect_one(judge_model(ranks), FindingLevel::warning, {2}, {"over the network"});
}

TEST(DoctorJudge, Networks) {
  auto ranks = sound_ranks({"a", "a", "b"});
  for (RankFacts& rank : ranks) rank.network.interfaces.push_back({"docker0", "172.17.0.1", 16, 0});
  expect_one(judge_network(ranks), FindingLevel::warning, {0, 2}, {"172.17.0.1", "btl_tcp_if_exclude lo,docker0"});
  EXPECT_EQ(text_of(judge_network(sound_ranks({"a", "a"}))), "") << "on one machine that does not matter";
  ranks = sound_ranks({"a", "b"});
  ranks[1].network.host_addresses = {"127.0.1.1"};
  expect_one(judge_network(ranks), FindingLevel::warning, {1}, {"127.0.1.1", "/etc/hosts"});
  ranks = sound_ranks({"a", "b"});
  ranks[1].network.interfaces[0].address = "10.0.1.2";
  expect_one(judge_network(ranks), FindingLevel::note, {}, {"no network"});
  ranks[1].network.interfaces.clear();
  const Findings findings = judge_network(ranks);
  EXPECT_TRUE(std::ranges::any_of(findings, [](const Finding& f) {
    return f.level == FindingLevel::fault && f.ranks == std::vector<int>{1};
  })) << text_of(findings);
}

TEST(DoctorJudge, Clocks) {
  const std::vector<ClockFacts> clocks{{1, 0.9, 0.001}, {2, -3.0, 0.001}, {3, 1.5, 2.0}};
  expect_one(judge_clocks(clocks), FindingLevel::note, {2}, {"3.0 s behind"});
}

TEST(DoctorJudge, Links) {
  EXPECT_EQ(text_of(judge_links(std::vector<LinkFacts>{{0, 1, true, 1e-2, 1e6, 1e6}, {1, 2, false, 1e-4, 1e9, 9e8}})),
            "");
  expect_one(judge_links(std::vector<LinkFacts>{{0, 1, false, 1e-4, 11e6, 11e6}}), FindingLevel::warning, {},
             {"ranks 0 and 1", "11.0 MB/s"});
  expect_one(judge_links(std::vector<LinkFacts>{{0, 1, false, 1e-4, 1e9, 1e8}}), FindingLevel::warning, {},
             {"one way"});
  expect_one(judge_links(std::vector<LinkFacts>{{0, 1, false, 5e-3, 1e9, 1e9}}), FindingLevel::warning, {}, {"5.0 ms"});
}

TEST(DoctorVerdict, IsThatOfTheFirstFault) {
  std::vector<CheckOutcome> checks{{"program", 0, {}, {note({0}, "a", "b")}}};
  EXPECT_EQ(verdict_of(checks).text, "ready");
  EXPECT_EQ(checks[0].level(), FindingLevel::note);
  checks.push_back({"disk", 0, {}, {warning({0}, "a", "b", "c"), note({}, "a", "b")}});
  EXPECT_EQ(verdict_of(checks).text, "ready, with 1 warning");
  EXPECT_EQ(verdict_of(checks).exit_code, 0);
  checks.push_back({"model", 0, {}, {fault(ExitCode::model, {1}, "a", "b", "c")}});
  checks.push_back({"network", 0, {}, {fault(ExitCode::communication, {1}, "a", "b", "c")}});
  EXPECT_EQ(verdict_of(checks).text, "not ready: 2 faults and 1 warning");
  EXPECT_EQ(verdict_of(checks).exit_code, 3);
}

TEST(DoctorVerdict, FindingsThatSayTheSameAreOne) {
  const Findings joined =
      join_equal({note({0}, "a", "b"), note({0}, "c", "b"), note({2}, "a", "b"), note({}, "a", "b")});
  ASSERT_EQ(joined.size(), 3U);
  EXPECT_EQ(joined[0].ranks, (std::vector<int>{0, 2}));
}

TEST(DoctorNames, ManyRanksAreNotAllNamed) {
  const auto ranks = sound_ranks({"a", "a", "b", "b", "c", "c", "d"});
  EXPECT_EQ(name_ranks(ranks, {2}), "rank 2 on b");
  EXPECT_EQ(name_ranks(ranks, {0, 1, 4, 6}), "ranks 0 (a), 1 (a), 4 (c) and 6 (d)");
  EXPECT_EQ(name_ranks(ranks, {0, 1, 2, 3, 4}), "ranks 0 (a), 1 (a), 2 (b) and 2 more");
  EXPECT_EQ(name_ranks(ranks, {0, 1, 2, 3, 4, 5, 6}), "all ranks");
}

}  // namespace
}  // namespace flexgen::test
