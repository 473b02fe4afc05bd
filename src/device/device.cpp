#include "device/device.hpp"

#include "base/error.hpp"
#ifdef FLEXGEN_HAS_CUDA
#include "device/cuda_check.hpp"
#endif

namespace flexgen {

#ifdef FLEXGEN_HAS_CUDA

bool cuda_compiled() { return true; }

int num_cuda_devices() {
  int count = 0;
  // Without a driver the run-time answers with an error, which must not stick to later calls.
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return count;
}

std::string device_description(const Device& device) {
  if (!device.is_cuda()) return "host CPU";
  cudaDeviceProp properties{};
  FLEXGEN_CUDA_CALL(cudaGetDeviceProperties(&properties, device.index));
  return std::string(properties.name) + " (sm_" + std::to_string(properties.major * 10 + properties.minor) + ")";
}

DeviceMemory device_memory(const Device& device) {
  use_device(device);
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  FLEXGEN_CUDA_CALL(cudaMemGetInfo(&free_bytes, &total_bytes));
  return {free_bytes, total_bytes};
}

int compute_capability(const Device& device) {
  if (!device.is_cuda()) return 0;
  int major = 0;
  int minor = 0;
  FLEXGEN_CUDA_CALL(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device.index));
  FLEXGEN_CUDA_CALL(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device.index));
  return major * 10 + minor;
}

void use_device(const Device& device) {
  if (device.is_cuda()) FLEXGEN_CUDA_CALL(cudaSetDevice(device.index));
}

std::string pci_bus_id(const Device& device) {
  if (!device.is_cuda()) return "";
  char id[32] = {};
  FLEXGEN_CUDA_CALL(cudaDeviceGetPCIBusId(id, sizeof id, device.index));
  return id;
}

#else

bool cuda_compiled() { return false; }
int num_cuda_devices() { return 0; }
std::string device_description(const Device&) { return "host CPU"; }
DeviceMemory device_memory(const Device&) {
  throw UserError(ExitCode::usage, "no GPU memory to measure", "this build has no CUDA", "Use --device cpu");
}
int compute_capability(const Device&) { return 0; }
void use_device(const Device&) {}
std::string pci_bus_id(const Device&) { return ""; }

#endif

}  // namespace flexgen
