// The communicator of a job started by mpirun or srun. Only inside src/comm; made by MpiSession.
#pragma once

#include <memory>

#include "comm/communicator.hpp"
#include "comm/mpi_progress.hpp"

namespace flexgen {

/// Collective over MPI_COMM_WORLD. `progress` outlives the communicator.
std::unique_ptr<Communicator> make_mpi_communicator(MpiProgress& progress);

}  // namespace flexgen
