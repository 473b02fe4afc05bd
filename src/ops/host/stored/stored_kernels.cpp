#include "ops/host/stored/stored_kernels.hpp"

#include "ops/host/instruction_sets.hpp"

namespace flexgen {
namespace {

KernelSets<StoredKernels> find_stored_sets() {
  KernelSets<StoredKernels> found = {&baseline_stored_kernels};
#if defined(__x86_64__)
  const InstructionSets runs = detect_instruction_sets();
  if (runs.avx2) found[1] = &avx2_stored_kernels;
  if (runs.avx512) found[2] = &avx512_stored_kernels;
  if (runs.avx512_vnni) found[3] = &avx512_vnni_stored_kernels;
#endif
  return found;
}

const KernelSets<StoredKernels>& stored_kernel_sets() {
  static const KernelSets<StoredKernels> sets = find_stored_sets();
  return sets;
}

}  // namespace

const StoredKernels* const* supported_stored_kernels() { return stored_kernel_sets().data(); }

const StoredKernels& stored_kernels() {
  static const StoredKernels& chosen = fastest(stored_kernel_sets());
  return chosen;
}

}  // namespace flexgen
