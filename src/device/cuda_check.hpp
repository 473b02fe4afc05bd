// Turns CUDA run-time errors into SystemError. Included by .cpp files of builds with CUDA only.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "base/error.hpp"

namespace flexgen {

inline void check_cuda(cudaError_t status, const char* call) {
  if (status == cudaSuccess) [[likely]]
    return;
  throw SystemError(ExitCode::internal, call,
                    std::string(cudaGetErrorName(status)) + " (" + cudaGetErrorString(status) + ")");
}

}  // namespace flexgen

#define FLEXGEN_CUDA_CALL(call) ::flexgen::check_cuda((call), #call)
