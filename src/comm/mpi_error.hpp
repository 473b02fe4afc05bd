// Decoding of MPI return codes. Only inside src/comm; needs no mpi.h.
#pragma once

#include <string>
#include <string_view>

namespace flexgen {

/// "MPI_ERR_TRUNCATE: message truncated".
std::string mpi_error_text(int code);

/// Throws SystemError (communication) unless `code` is MPI_SUCCESS.
/// @param call what was called ("MPI_Isend to rank 2")
/// @param who  the calling rank ("rank 1 on host-b")
void check_mpi(int code, std::string_view call, std::string_view who);

}  // namespace flexgen
