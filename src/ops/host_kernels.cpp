#include "ops/host_kernels.hpp"

#include <array>

namespace flexgen {
namespace {

std::array<const HostKernels*, 4> detect() {
  std::array<const HostKernels*, 4> found = {&baseline_kernels, nullptr, nullptr, nullptr};
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
                    __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  if (avx2) found[1] = &avx2_kernels;
  if (avx512) found[2] = &avx512_kernels;
#endif
  return found;
}

const std::array<const HostKernels*, 4>& kernel_sets() {
  static const std::array<const HostKernels*, 4> sets = detect();
  return sets;
}

}  // namespace

const HostKernels* const* supported_host_kernels() { return kernel_sets().data(); }

const HostKernels& host_kernels() {
  const auto& sets = kernel_sets();
  return *(sets[2] != nullptr ? sets[2] : sets[1] != nullptr ? sets[1] : sets[0]);
}

}  // namespace flexgen
