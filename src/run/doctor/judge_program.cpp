#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "run/doctor/judge.hpp"

namespace flexgen {
namespace {

bool is_newer(const std::string& a, const std::string& b) {
  std::array<int, 2> of_a{}, of_b{};
  if (std::sscanf(a.c_str(), "%d.%d", &of_a[0], &of_a[1]) != 2) return false;
  if (std::sscanf(b.c_str(), "%d.%d", &of_b[0], &of_b[1]) != 2) return false;
  return of_a > of_b;
}

void judge_build(int rank, const ProgramFacts& program, std::vector<Finding>& findings) {
  if (!program.optimised)
    findings.push_back(warning({rank}, "the program is built without optimisation, or with sanitizers",
                               "it computes at a fraction of the machine's speed",
                               "Build with -DCMAKE_BUILD_TYPE=Release, as launch/quickstart.sh does"));
  if (is_newer(program.built_glibc, program.glibc))
    findings.push_back(warning(
        {rank},
        fmt::format("the program was built with glibc {}, and runs with {}", program.built_glibc, program.glibc),
        "what it needs of the newer one may be missing", "Build it on the machine with the oldest system"));
  if (program.kernels == "baseline")
    findings.push_back(warning({rank}, fmt::format("{} has no AVX2", program.processor),
                               "what processors compute runs on kernels without wide instructions, many times slower",
                               "Use another machine, or do not let processors attend (--cpu-cache-compute)"));
  else if (program.kernels == "avx2")
    findings.push_back(note({rank}, fmt::format("{} has no AVX-512", program.processor),
                            "what processors compute runs on kernels for AVX2"));
}

void judge_binding(int rank, const MachineFacts& machine, std::vector<Finding>& findings) {
  if (machine.processors_allowed == 1 && machine.processors >= 4)
    findings.push_back(warning({rank}, fmt::format("may run on 1 of {} processors", machine.processors),
                               "mpirun binds a rank to a core unless it is told otherwise",
                               "Start with launch/mpirun.sh, or give mpirun --bind-to none"));
  else if (machine.processors_allowed < machine.processors)
    findings.push_back(
        note({rank}, fmt::format("may run on {} of {} processors", machine.processors_allowed, machine.processors),
             "it was bound to them by its launcher or a cpuset"));
  if (machine.processors_available < machine.processors_allowed)
    findings.push_back(note({rank}, fmt::format("has the time of {} processors", machine.processors_available),
                            "a control group limits it (docker --cpus, a batch system)"));
}

}  // namespace

std::vector<Finding> judge_program(AllRanks ranks) {
  std::vector<Finding> findings;
  const auto versions = group_ranks(ranks, [](const RankFacts& rank) { return rank.program.version; });
  if (versions.size() > 1)
    findings.push_back(fault(ExitCode::communication, {}, "the ranks run different programs",
                             list_groups(ranks, versions), "Install the same build on every host"));
  const auto libraries = group_ranks(ranks, [](const RankFacts& rank) { return rank.program.mpi; });
  if (libraries.size() > 1)
    findings.push_back(warning({}, "the ranks load different MPI libraries", list_groups(ranks, libraries),
                               "Install the same MPI on every host, or set LD_LIBRARY_PATH alike"));
  const auto kernels = group_ranks(ranks, [](const RankFacts& rank) { return rank.program.kernels; });
  if (kernels.size() > 1)
    findings.push_back(
        warning({}, "the ranks' processors have different instruction sets", list_groups(ranks, kernels),
                "The slowest stage sets the pace; where processors compute, near ties between tokens may "
                "fall otherwise with another order of hosts"));
  for (std::size_t r = 0; r < ranks.size(); ++r) judge_build(static_cast<int>(r), ranks[r].program, findings);
  return join_equal(std::move(findings));
}

std::vector<Finding> judge_launch(AllRanks ranks) {
  std::vector<Finding> findings;
  if (ranks.front().launch.batch_tasks > 1)
    findings.push_back(
        warning({0}, fmt::format("started alone in a Slurm job of {} tasks", ranks.front().launch.batch_tasks),
                "a job that is started so runs on one of them",
                "Start it with srun --mpi=pmix, or with mpirun in the allocation"));
  for (const auto& [boot, members] : group_ranks(ranks, [](const RankFacts& rank) { return rank.launch.boot; })) {
    const RankFacts& first = ranks[static_cast<std::size_t>(members.front())];
    const bool shares = std::ranges::all_of(
        members, [&](int r) { return ranks[static_cast<std::size_t>(r)].launch.node == first.launch.node; });
    if (!shares)
      findings.push_back(warning(members, "run on one machine, but in containers that do not see each other",
                                 "each takes all of its memory and disk for its own",
                                 "Give --cpu-mem, --disk-mem and --gpu-mem, so that they add up to what there is"));
    const bool is_bound = first.machine.processors_allowed < first.machine.processors;  // each rank to others
    const int processors = is_bound ? first.machine.processors : first.machine.processors_available;
    if (static_cast<int>(members.size()) > processors)
      findings.push_back(warning(members, fmt::format("{} ranks share {} processors", members.size(), processors),
                                 "they take turns", "Start fewer ranks on this machine"));
  }
  for (const auto& [host, members] : group_ranks(ranks, [](const RankFacts& rank) { return rank.launch.host; })) {
    const bool is_one = std::ranges::all_of(members, [&](int r) {
      return ranks[static_cast<std::size_t>(r)].launch.boot ==
             ranks[static_cast<std::size_t>(members.front())].launch.boot;
    });
    if (!is_one)
      findings.push_back(warning(members, fmt::format("run on several machines that are all called '{}'", host),
                                 "messages cannot tell them apart", "Give each machine a name of its own"));
  }
  for (std::size_t r = 0; r < ranks.size(); ++r) judge_binding(static_cast<int>(r), ranks[r].machine, findings);
  return join_equal(std::move(findings));
}

}  // namespace flexgen
