// Opening the links between the ranks of a job.
#pragma once

#include <memory>
#include <string>

#include "comm/mpi_session.hpp"
#include "device/device.hpp"

namespace flexgen {

/// Collective. True when every rank computes on a GPU of its own.
bool one_gpu_each(const Device& device, Communicator& ranks);

/// Collective. Whether open_transport will choose NCCL where that can be had.
bool wants_nccl(const std::string& wanted, const Device& device, Communicator& ranks);

/// Collective. Host memory by MPI, or GPU memory by NCCL as `wanted` says (auto: where every rank has a GPU of its
/// own). Throws AgreedError (usage) when nccl was asked for and cannot be had.
std::unique_ptr<Transport> open_transport(MpiSession& session, const std::string& wanted, const Device& device);

/// Collective. NCCL on top of `host`; a link that fails ends the job everywhere.
std::unique_ptr<Transport> open_nccl(MpiSession& session, std::unique_ptr<Transport> host, const Device& device);

}  // namespace flexgen
