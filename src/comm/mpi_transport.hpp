// Host memory between processes, by MPI. Only inside src/comm; made by MpiSession.
//
// On the wire a message is a run of parts of `part_bytes`, ended by a shorter one (perhaps empty): any size fits
// MPI's int counts, and a receiver that expects another size always notices. Tag = channel.
#pragma once

#include <memory>

#include "base/bytes.hpp"
#include "comm/mpi_progress.hpp"
#include "comm/transport.hpp"

namespace flexgen {

struct MpiTransportOptions {
  std::size_t part_bytes = GiB;  // alike on all ranks; at most INT_MAX
};

/// Collective over MPI_COMM_WORLD. `progress` outlives the transport.
std::unique_ptr<Transport> make_mpi_transport(MpiProgress& progress, const MpiTransportOptions& options = {});

}  // namespace flexgen
