// Refusal of two ranks on one GPU. Needs no CUDA.
#pragma once

#include <string_view>

#include "comm/communicator.hpp"

namespace flexgen {

/// Collective. Throws AgreedError (communication) on all ranks if two of them use the same GPU: NCCL's kernels would
/// wait for each other on it for ever.
/// @param pci_bus_id of this rank's GPU ("0000:3b:00.0")
void refuse_shared_gpus(Communicator& communicator, std::string_view pci_bus_id);

}  // namespace flexgen
