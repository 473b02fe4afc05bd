// Which device computes, and what this build and this machine offer.
#pragma once

#include <cstdint>
#include <string>

namespace flexgen {

enum class DeviceKind : std::uint8_t { host, cuda };

struct Device {
  DeviceKind kind = DeviceKind::host;
  int index = 0;  // CUDA ordinal; 0 on the host

  bool is_cuda() const { return kind == DeviceKind::cuda; }
};

/// True when the CUDA engine was compiled in.
bool cuda_compiled();
/// Usable GPUs; 0 without CUDA, driver or GPU. Never throws.
int num_cuda_devices();
/// "NVIDIA H200 (sm_90)" or "host CPU".
std::string device_description(const Device& device);
/// Free and total bytes of a GPU as the driver sees them. Throws SystemError without one.
struct DeviceMemory {
  std::uint64_t free_bytes = 0;
  std::uint64_t total_bytes = 0;
};
DeviceMemory device_memory(const Device& device);
/// Compute capability as 10 * major + minor (75, 80, 90); 0 on the host.
int compute_capability(const Device& device);
/// Makes `device` current for the calling thread; no-op on the host.
void use_device(const Device& device);
/// "0000:3b:00.0"; empty on the host.
std::string pci_bus_id(const Device& device);

}  // namespace flexgen
