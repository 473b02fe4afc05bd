#include "ops/host/host_kernels.hpp"

#include <algorithm>
#include <array>

namespace flexgen {
namespace {

std::array<const HostKernels*, 5> detect() {
  std::array<const HostKernels*, 5> found = {&baseline_kernels};
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
                    __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  if (avx2) found[1] = &avx2_kernels;
  if (avx512) found[2] = &avx512_kernels;
  if (avx512 && __builtin_cpu_supports("avx512bf16")) found[3] = &avx512_bf16_kernels;
#endif
  return found;
}

const std::array<const HostKernels*, 5>& kernel_sets() {
  static const std::array<const HostKernels*, 5> sets = detect();
  return sets;
}

}  // namespace

const HostKernels* const* supported_host_kernels() { return kernel_sets().data(); }

const HostKernels& host_kernels() {
  static const HostKernels& fastest = *kernel_sets()[static_cast<std::size_t>(
      std::find(kernel_sets().begin(), kernel_sets().end(), nullptr) - kernel_sets().begin() - 1)];
  return fastest;
}

}  // namespace flexgen
