// Which of the instruction sets that kernels are compiled for this processor runs, and tables of such kernels.
// Stateless; any thread.
#pragma once

#include <algorithm>
#include <array>

namespace flexgen {

/// A wider one implies the narrower ones.
struct InstructionSets {
  bool avx2 = false;         // x86-64-v3
  bool avx512 = false;       // x86-64-v4
  bool avx512_bf16 = false;  // that and BF16
  bool avx512_vnni = false;  // that and VNNI
};
InstructionSets detect_instruction_sets();

/// The sets of kernels that this processor runs, the slowest first; ends with at least one null pointer.
template <class Kernels>
using KernelSets = std::array<const Kernels*, 5>;

template <class Kernels>
const Kernels& fastest(const KernelSets<Kernels>& sets) {
  return **(std::find(sets.begin(), sets.end(), nullptr) - 1);
}

}  // namespace flexgen
