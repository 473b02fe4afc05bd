#include "device/cuda_versions.hpp"

#ifdef FLEXGEN_HAS_CUDA
#include <cuda_runtime_api.h>
#endif

namespace flexgen {

#ifdef FLEXGEN_HAS_CUDA

namespace {

std::string as_text(int version) {
  return version == 0 ? "" : std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

}  // namespace

CudaVersions cuda_versions() {
  CudaVersions versions;
  int number = 0;
  if (cudaRuntimeGetVersion(&number) == cudaSuccess) versions.runtime = as_text(number);
  number = 0;
  if (cudaDriverGetVersion(&number) == cudaSuccess) versions.driver = as_text(number);
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    versions.problem = cudaGetErrorString(error);
    cudaGetLastError();  // it must not stick to later calls
  }
  return versions;
}

#else

CudaVersions cuda_versions() { return {}; }

#endif

}  // namespace flexgen
