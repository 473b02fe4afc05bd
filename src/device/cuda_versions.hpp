// What CUDA this program is linked with, and what keeps it from a GPU. Needs no GPU; thread-safe.
#pragma once

#include <string>

namespace flexgen {

struct CudaVersions {
  std::string runtime;  // that the program is linked with, "13.0"; empty in a build without CUDA
  std::string driver;   // the newest that the machine's driver knows, "12.4"; empty without a driver
  std::string problem;  // why no GPU can be used, in CUDA's words; empty: one can, or this build has no CUDA
};
CudaVersions cuda_versions();

}  // namespace flexgen
