#include "ops/host/compressed_kernels.hpp"

#include <array>
#include <cstring>

#include "ops/host/host_kernels.hpp"

namespace flexgen {
namespace {

/// The sets have the names of those of host_kernels.hpp, which knows what the processor runs.
std::array<const CompressedKernels*, 5> detect() {
  std::array<const CompressedKernels*, 5> found = {&baseline_compressed_kernels};
#if defined(__x86_64__)
  for (const HostKernels* const* set = supported_host_kernels(); *set != nullptr; ++set) {
    if (std::strcmp((*set)->name, avx2_compressed_kernels.name) == 0) found[1] = &avx2_compressed_kernels;
    if (std::strcmp((*set)->name, avx512_compressed_kernels.name) == 0) found[2] = &avx512_compressed_kernels;
  }
  if (found[2] != nullptr && __builtin_cpu_supports("avx512vnni")) found[3] = &avx512_vnni_compressed_kernels;
#endif
  return found;
}

const std::array<const CompressedKernels*, 5>& kernel_sets() {
  static const std::array<const CompressedKernels*, 5> sets = detect();
  return sets;
}

}  // namespace

const CompressedKernels* const* supported_compressed_kernels() { return kernel_sets().data(); }

const CompressedKernels& compressed_kernels() {
  static const CompressedKernels& fastest = []() -> const CompressedKernels& {
    std::size_t last = 0;
    while (kernel_sets()[last + 1] != nullptr) ++last;
    return *kernel_sets()[last];
  }();
  return fastest;
}

}  // namespace flexgen
