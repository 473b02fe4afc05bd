#include "ops/host/host_kernels.hpp"

#include "ops/host/instruction_sets.hpp"

namespace flexgen {
namespace {

KernelSets<HostKernels> find_host_sets() {
  KernelSets<HostKernels> found = {&baseline_kernels};
#if defined(__x86_64__)
  const InstructionSets runs = detect_instruction_sets();
  if (runs.avx2) found[1] = &avx2_kernels;
  if (runs.avx512) found[2] = &avx512_kernels;
  if (runs.avx512_bf16) found[3] = &avx512_bf16_kernels;
#endif
  return found;
}

const KernelSets<HostKernels>& host_kernel_sets() {
  static const KernelSets<HostKernels> sets = find_host_sets();
  return sets;
}

}  // namespace

const HostKernels* const* supported_host_kernels() { return host_kernel_sets().data(); }

const HostKernels& host_kernels() {
  static const HostKernels& chosen = fastest(host_kernel_sets());
  return chosen;
}

}  // namespace flexgen
