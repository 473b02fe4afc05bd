// Host memory between processes, by MPI. Only inside src/comm; made by MpiSession.
//
// On the wire a message is a run of parts of `part_bytes`, ended by a shorter one (perhaps empty). So any size fits
// MPI's int counts, a receiver that expects another size always notices, and the progress thread of both sides sees
// data flow, and polls faster, without knowing MPI's inside. Tag = channel.
#pragma once

#include <memory>

#include "comm/mpi_progress.hpp"
#include "comm/transport.hpp"

namespace flexgen {

/// Collective over MPI_COMM_WORLD. `progress` outlives the transport.
/// @param part_bytes alike on all ranks; at most INT_MAX
std::unique_ptr<Transport> make_mpi_transport(MpiProgress& progress, std::size_t part_bytes);

}  // namespace flexgen
