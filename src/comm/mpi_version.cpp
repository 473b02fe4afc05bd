#include "comm/mpi_version.hpp"

#include <mpi.h>

#include <array>
#include <sstream>

namespace flexgen {

std::string mpi_version_text() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
  int length = 0;
  if (MPI_Get_library_version(text.data(), &length) != MPI_SUCCESS) return "";
  // "Open MPI v4.1.4, package: ...", or lines of "MPICH Version:    4.0.2".
  const std::string whole(text.data(), static_cast<std::size_t>(length));
  std::istringstream words(whole.substr(0, whole.find_first_of(",\n")));
  std::string version, word;
  while (words >> word) version += (version.empty() ? "" : " ") + word;
  return version;
}

}  // namespace flexgen
