#include "comm/gpu_sharing.hpp"

#include <fstream>
#include <string>
#include <vector>

namespace flexgen {
namespace {

/// The machine's boot, rather than its name: alike in all containers of a machine, different on machines whose
/// names repeat.
std::string machine_identity() {
  std::string id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> id;
  return id.empty() ? host_name() : id;
}

}  // namespace

void refuse_shared_gpus(Communicator& communicator, std::string_view pci_bus_id) {
  const std::vector<std::string> gpus = communicator.all_gather(machine_identity() + " " + std::string(pci_bus_id));
  for (std::size_t i = 0; i < gpus.size(); ++i)
    for (std::size_t j = i + 1; j < gpus.size(); ++j)
      if (gpus[i] == gpus[j])
        throw AgreedError(ExitCode::communication,
                          communicator.describe(static_cast<int>(i)) + " and " +
                              communicator.describe(static_cast<int>(j)) + " share the GPU at " +
                              gpus[i].substr(gpus[i].find(' ') + 1) +
                              ": NCCL would hang. Give every rank a GPU of its own, or use the MPI transport");
}

}  // namespace flexgen
