#include <algorithm>
#include <fstream>
#include <sstream>

#include "device/cuda_versions.hpp"
#include "device/device.hpp"
#include "run/doctor/own_facts.hpp"
#include "run/machine.hpp"

namespace flexgen {
namespace {

namespace fs = std::filesystem;

// "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 ...": the first number with points.
std::string driver_version(const fs::path& root) {
  std::ifstream file(root / "proc/driver/nvidia/version");
  std::string line, word;
  std::getline(file, line);
  std::istringstream words(line);
  while (words >> word)
    if (word.find('.') != std::string::npos && word.find_first_not_of("0123456789.") == std::string::npos) return word;
  return "";
}

std::vector<std::string> gpus_of_driver(const fs::path& root) {
  std::vector<std::string> gpus;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(root / "proc/driver/nvidia/gpus", ignored)) {
    std::ifstream file(entry.path() / "information");
    std::string model;
    for (std::string line; model.empty() && std::getline(file, line);)
      if (line.starts_with("Model:")) model = line.substr(std::min(line.size(), line.find_first_not_of(" \t", 6)));
    gpus.push_back(entry.path().filename().string() + " " + model);
  }
  std::ranges::sort(gpus);
  return gpus;
}

}  // namespace

GpuFacts look_at_gpu(const MachineRequest& request, const Communicator& ranks, const fs::path& root) {
  const CudaVersions versions = cuda_versions();
  GpuFacts facts;
  facts.compiled = cuda_compiled();
  if (facts.compiled) facts.compiled_for = FLEXGEN_CUDA_ARCHITECTURES;
  facts.runtime = versions.runtime;
  facts.driver = driver_version(root);
  facts.on_machine = gpus_of_driver(root);
  facts.num_visible = num_cuda_devices();
  facts.problem = versions.problem;
  if (facts.num_visible == 0 && request.device != "cuda") return facts;
  try {
    const Device device = choose_device(request, ranks);
    if (!device.is_cuda()) return facts;
    const DeviceMemory memory = device_memory(device);
    facts.own = OwnGpu{device_description(device), pci_bus_id(device), compute_capability(device), memory.free_bytes,
                       memory.total_bytes};
  } catch (const Error& error) {
    facts.problem = error.what();
  }
  return facts;
}

}  // namespace flexgen
