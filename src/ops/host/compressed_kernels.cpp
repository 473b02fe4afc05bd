#include "ops/host/compressed_kernels.hpp"

#include "ops/host/instruction_sets.hpp"

namespace flexgen {
namespace {

KernelSets<CompressedKernels> find_sets() {
  KernelSets<CompressedKernels> found = {&baseline_compressed_kernels};
#if defined(__x86_64__)
  const InstructionSets runs = detect_instruction_sets();
  if (runs.avx2) found[1] = &avx2_compressed_kernels;
  if (runs.avx512) found[2] = &avx512_compressed_kernels;
  if (runs.avx512_vnni) found[3] = &avx512_vnni_compressed_kernels;
#endif
  return found;
}

const KernelSets<CompressedKernels>& kernel_sets() {
  static const KernelSets<CompressedKernels> sets = find_sets();
  return sets;
}

}  // namespace

const CompressedKernels* const* supported_compressed_kernels() { return kernel_sets().data(); }

const CompressedKernels& compressed_kernels() {
  static const CompressedKernels& chosen = fastest(kernel_sets());
  return chosen;
}

}  // namespace flexgen
