#include <fmt/core.h>

#include <algorithm>
#include <optional>
#include <sstream>

#include "base/bytes.hpp"
#include "run/doctor/judge.hpp"

namespace flexgen {
namespace {

// A GPU is there, or asked for, and the program does not use it.
std::optional<Finding> judge_unused(int rank, const GpuFacts& gpu, const MachineRequest& request) {
  if (gpu.own || request.device == "cpu") return std::nullopt;
  const bool is_wanted = request.device == "cuda";
  const auto say = [&](const std::string& what, const std::string& why, const std::string& remedy) {
    return is_wanted ? fault(ExitCode::usage, {rank}, what, why, remedy) : warning({rank}, what, why, remedy);
  };
  if (!gpu.compiled && (is_wanted || !gpu.driver.empty()))
    return say(gpu.driver.empty() ? "--device cuda cannot be honoured" : "has a GPU that this build does not use",
               "it was built without CUDA",
               "Build on a machine with CUDA (FLEXGEN_CUDA=ON launch/quickstart.sh), or give --device cpu");
  if (gpu.compiled && (is_wanted || !gpu.driver.empty()))
    return say(
        "no GPU can be used", gpu.problem.empty() ? "none is visible" : gpu.problem,
        fmt::format("Check CUDA_VISIBLE_DEVICES, docker --gpus, and that the driver ({}) is new enough for CUDA {}",
                    gpu.driver.empty() ? "none" : gpu.driver, gpu.runtime));
  return std::nullopt;
}

// The program holds machine code for some capabilities; the driver can compile for newer ones, not for older ones.
std::optional<Finding> judge_capability(int rank, const GpuFacts& gpu) {
  std::istringstream words(gpu.compiled_for);
  int least = 0;
  bool has_own = false;
  for (std::string word; words >> word;) {
    const int capability = std::atoi(word.c_str());
    if (capability == 0) return std::nullopt;  // "native", "all"
    least = least == 0 ? capability : std::min(least, capability);
    has_own |= capability / 10 == gpu.own->capability / 10 && capability <= gpu.own->capability;
  }
  if (least == 0 || has_own) return std::nullopt;
  const std::string what = fmt::format("the program holds no code for {}", gpu.own->name);
  const std::string why = fmt::format("it was built for compute capabilities {}", gpu.compiled_for);
  const std::string remedy = fmt::format("Build with -DCMAKE_CUDA_ARCHITECTURES={}", gpu.own->capability);
  if (gpu.own->capability < least) return fault(ExitCode::usage, {rank}, what, why, remedy);
  return warning({rank}, what, why + "; the driver compiles it at every first start", remedy);
}

void judge_sharing(AllRanks ranks, const MachineRequest& request, std::vector<Finding>& findings) {
  const auto place = [](const RankFacts& rank) {
    return rank.gpu.own ? rank.launch.boot + " " + rank.gpu.own->bus : "";
  };
  for (const auto& [gpu, members] : group_ranks(ranks, place)) {
    if (gpu.empty() || members.size() == 1) continue;
    const RankFacts& first = ranks[static_cast<std::size_t>(members.front())];
    const bool know_each_other = std::ranges::all_of(
        members, [&](int r) { return ranks[static_cast<std::size_t>(r)].launch.node == first.launch.node; });
    const std::string what = fmt::format("share the GPU at {}", first.gpu.own->bus);
    if (know_each_other || request.gpu_mem)
      findings.push_back(
          warning(members, what, "they take turns on it, and NCCL cannot link them", "Start one rank for each GPU"));
    else
      findings.push_back(fault(ExitCode::does_not_fit, members, what,
                               "in containers that do not see each other: each takes all of its memory for its own",
                               "Give every rank a GPU of its own (docker --gpus device=N), or --gpu-mem"));
  }
}

}  // namespace

std::vector<Finding> judge_gpu(AllRanks ranks, const MachineRequest& request) {
  std::vector<Finding> findings;
  const auto kinds = group_ranks(ranks, [](const RankFacts& rank) { return rank.gpu.own ? "cuda" : "cpu"; });
  if (kinds.size() > 1)
    findings.push_back(fault(ExitCode::communication, {}, "some ranks compute on GPUs and others on processors",
                             list_groups(ranks, kinds), "Give --device cpu, or leave hosts without a GPU out"));
  judge_sharing(ranks, request, findings);
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    const int rank = static_cast<int>(r);
    const GpuFacts& gpu = ranks[r].gpu;
    if (auto unused = judge_unused(rank, gpu, request)) findings.push_back(*unused);
    if (!gpu.own) continue;
    if (auto capability = judge_capability(rank, gpu)) findings.push_back(*capability);
    if (gpu.own->free_bytes < gpu.own->total_bytes / 2)
      findings.push_back(warning({rank},
                                 fmt::format("{} of the GPU's {} are free", format_bytes(gpu.own->free_bytes),
                                             format_bytes(gpu.own->total_bytes)),
                                 "another program uses it", "End that (nvidia-smi lists it), or give --gpu-mem"));
  }
  return join_equal(std::move(findings));
}

}  // namespace flexgen
