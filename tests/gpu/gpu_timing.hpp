// Timing of what a stream does, for the benchmarks of this folder.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "gpu_case.hpp"

namespace flexgen::gpu {

struct Timing {
  std::string name;
  double microseconds;
  double rate;  // GB/s or TFLOP/s
  const char* unit;
};

/// Mean time of one call, over enough calls to last some milliseconds. `body` gets the number of the call.
inline double microseconds_of(const OpContext& context, const std::function<void(int)>& body) {
  auto stream = static_cast<cudaStream_t>(context.stream);
  cudaEvent_t begin, end;
  FLEXGEN_CUDA_CALL(cudaEventCreate(&begin));
  FLEXGEN_CUDA_CALL(cudaEventCreate(&end));
  float milliseconds = 0.0F;
  int calls = 8;
  for (;; calls *= 4) {
    FLEXGEN_CUDA_CALL(cudaEventRecord(begin, stream));
    for (int i = 0; i < calls; ++i) body(i);
    FLEXGEN_CUDA_CALL(cudaEventRecord(end, stream));
    FLEXGEN_CUDA_CALL(cudaEventSynchronize(end));
    FLEXGEN_CUDA_CALL(cudaEventElapsedTime(&milliseconds, begin, end));
    if (milliseconds > 20.0F || calls > 4000) break;
  }
  FLEXGEN_CUDA_CALL(cudaEventDestroy(begin));
  FLEXGEN_CUDA_CALL(cudaEventDestroy(end));
  return milliseconds * 1e3 / calls;
}

/// Room in the workspace for the largest matrix that is made plain, of [28672, 7168].
inline constexpr std::uint64_t largest_plain_weights = 2ULL * 28672 * 7168 + 512;

/// Adds the timings of what works on compressed matrices and caches; all, or only those of one op.
void time_compressed_ops(const OpContext& context, std::string_view only, std::vector<Timing>& timings);

}  // namespace flexgen::gpu
