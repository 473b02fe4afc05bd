// Which MPI library this process runs with. Needs no MPI session; any thread.
#pragma once

#include <string>

namespace flexgen {

/// "Open MPI v4.1.4"; empty where the library does not say.
std::string mpi_version_text();

}  // namespace flexgen
