// Checks the GPU's kernels against their host references.
//
//   ops_cuda_check [--only GROUP]     one group of checks: compute-sanitizer takes long for all of them
//
// Exit status 1 when a result is wrong or a group compares nothing, 2 when the arguments are.
#include <string_view>

#include "gpu_check.hpp"

namespace flexgen::gpu {
namespace {

std::vector<CheckGroup> all_groups() {
  std::vector<CheckGroup> groups(op_checks().begin(), op_checks().end());
  groups.insert(groups.end(), compressed_op_checks().begin(), compressed_op_checks().end());
  groups.insert(groups.end(), sampling_checks().begin(), sampling_checks().end());
  groups.insert(groups.end(), shared_spans_checks().begin(), shared_spans_checks().end());
  return groups;
}

/// Those that the arguments ask for; none when the arguments are wrong.
std::vector<CheckGroup> chosen_groups(std::span<char* const> arguments) {
  std::vector<CheckGroup> groups = all_groups();
  if (arguments.empty()) return groups;
  if (arguments.size() != 2 || std::string_view(arguments[0]) != "--only") return {};
  std::erase_if(groups, [&](const CheckGroup& group) { return group.name != std::string_view(arguments[1]); });
  return groups;
}

int fail_usage() {
  std::fprintf(stderr, "usage: ops_cuda_check [--only GROUP], of the groups");
  for (const CheckGroup& group : all_groups()) std::fprintf(stderr, " %s", group.name);
  std::fprintf(stderr, "\n");
  return 2;
}

int run(std::span<const CheckGroup> groups) {
  use_device(kGpu);
  cudaStream_t stream = nullptr;
  FLEXGEN_CUDA_CALL(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  // More rows, heads and positions than any check has.
  const Buffer scratch(MemoryKind::device,
                       attention_workspace_bytes(kGpu, {64, 56, 256, 4096, DType::float16, {4, 64}, 1.0F, true}) +
                           linear_workspace_bytes(kGpu) + linear_compressed_workspace_bytes(kGpu),
                       kGpu);
  Workspace workspace(scratch.data(), scratch.size_bytes());
  OpContext context;
  context.device = kGpu;
  context.stream = stream;
  context.workspace = &workspace;

  Report report;
  for (const CheckGroup& group : groups) {
    const int before = report.comparisons();
    group.check(context, report);
    FLEXGEN_CHECK(report.comparisons() > before, std::string(group.name) + ": nothing was compared");
  }
  FLEXGEN_CUDA_CALL(cudaStreamDestroy(stream));
  std::printf("%s\n", report.failures() == 0 ? "all results agree" : "WRONG RESULTS, see above");
  return report.failures() == 0 ? 0 : 1;
}

}  // namespace
}  // namespace flexgen::gpu

int main(int argc, char** argv) {
  using namespace flexgen::gpu;
  try {
    const auto groups = chosen_groups(std::span(argv, static_cast<std::size_t>(argc)).subspan(1));
    return groups.empty() ? fail_usage() : run(groups);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ops_cuda_check: %s\n", error.what());
    return 1;
  }
}
