#include "ops/host/instruction_sets.hpp"

namespace flexgen {

InstructionSets detect_instruction_sets() {
  InstructionSets runs;
#if defined(__x86_64__)
  __builtin_cpu_init();
  runs.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
              __builtin_cpu_supports("bmi2");
  runs.avx512 = runs.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                __builtin_cpu_supports("avx512vl");
  runs.avx512_bf16 = runs.avx512 && __builtin_cpu_supports("avx512bf16");
  runs.avx512_vnni = runs.avx512 && __builtin_cpu_supports("avx512vnni");
#endif
  return runs;
}

}  // namespace flexgen
