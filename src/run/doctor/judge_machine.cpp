#include <fmt/core.h>

#include <algorithm>

#include "base/bytes.hpp"
#include "run/doctor/judge.hpp"

namespace flexgen {
namespace {

void judge_memory(int rank, const RankFacts& facts, std::vector<Finding>& findings) {
  const MachineFacts& machine = facts.machine;
  if (machine.group_memory_bytes)
    findings.push_back(note({rank},
                            fmt::format("a control group limits memory to {} of {}",
                                        format_bytes(*machine.group_memory_bytes), format_bytes(machine.memory_bytes)),
                            "a container or a batch system is told so; budgets keep to it"));
  constexpr std::uint64_t little_bytes = 1 * GiB;
  const std::uint64_t own = machine.available_bytes / static_cast<std::uint64_t>(std::max(1, facts.launch.local_size));
  if (own < little_bytes)
    findings.push_back(warning({rank}, fmt::format("{} of memory are left for a rank", format_bytes(own)),
                               "most models want more, and others may use the machine",
                               "End what else runs there, or start fewer ranks"));
}

void judge_limits(int rank, const RankFacts& facts, bool several_machines, std::vector<Finding>& findings) {
  const MachineFacts& machine = facts.machine;
  constexpr std::uint64_t enough_locked_bytes = 1 * GiB;
  if (machine.locked_bytes && *machine.locked_bytes < enough_locked_bytes) {
    const std::string what = fmt::format("may lock {} of memory", format_bytes(*machine.locked_bytes));
    const std::string remedy =
        "Raise it: ulimit -l unlimited, docker --ulimit memlock=-1, or LimitMEMLOCK of sshd and slurmd";
    if (facts.gpu.own || several_machines)
      findings.push_back(warning({rank}, what,
                                 "pinned buffers and fast networks (InfiniBand, RoCE) lock memory; without, copies are "
                                 "slower or links do not come up",
                                 remedy));
    else findings.push_back(note({rank}, what, "GPUs and fast networks would want more"));
  }
  const std::uint64_t files = (facts.model ? facts.model->files.size() : 0) + 512;
  if (machine.open_files && *machine.open_files < files)
    findings.push_back(warning({rank}, fmt::format("may open {} files", *machine.open_files),
                               fmt::format("the model's files, scratch files and links may be {}", files),
                               "Raise it: ulimit -n 4096"));
  if (machine.address_bytes)
    findings.push_back(warning({rank},
                               fmt::format("address space is limited to {}", format_bytes(*machine.address_bytes)),
                               "CUDA and mapped files take far more of it than they use", "Give ulimit -v unlimited"));
  if (machine.file_bytes)
    findings.push_back(warning({rank}, fmt::format("a file may have {} at most", format_bytes(*machine.file_bytes)),
                               "scratch files and results may be larger", "Give ulimit -f unlimited"));
}

}  // namespace

std::vector<Finding> judge_machine(AllRanks ranks) {
  const bool several = on_several_machines(ranks);
  std::vector<Finding> findings;
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    const int rank = static_cast<int>(r);
    const MachineFacts& machine = ranks[r].machine;
    judge_memory(rank, ranks[r], findings);
    judge_limits(rank, ranks[r], several, findings);
    if (machine.huge_pages == "never")
      findings.push_back(note({rank}, "transparent huge pages are off",
                              "large buffers come in pages of 4 KiB, which cost some speed",
                              "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"));
    if (machine.loop_threads)
      findings.push_back(note({rank}, fmt::format("OMP_NUM_THREADS={} is set", *machine.loop_threads),
                              "it decides how many threads compute on the processors",
                              "Unset it if that was not meant"));
  }
  return join_equal(std::move(findings));
}

}  // namespace flexgen
