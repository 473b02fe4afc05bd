#include "comm/mpi_error.hpp"

#include <mpi.h>

#include "base/error.hpp"

namespace flexgen {

std::string mpi_error_text(int code) {
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) return "MPI error " + std::to_string(code);
  return std::string(text, static_cast<std::size_t>(length));
}

void check_mpi(int code, std::string_view call, std::string_view who) {
  if (code == MPI_SUCCESS) [[likely]]
    return;
  throw SystemError(ExitCode::communication, std::string(call) + " by " + std::string(who), mpi_error_text(code));
}

}  // namespace flexgen
