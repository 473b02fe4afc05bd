#include "run/version.hpp"

#include "comm/nccl_transport.hpp"
#include "commit.hpp"  // made by the build: launch/cmake/write_commit.cmake
#include "device/device.hpp"

namespace flexgen {

std::string version_text() {
  std::string text = FLEXGEN_VERSION " (" FLEXGEN_COMMIT;
  if (cuda_compiled()) text += ", CUDA";
  if (has_nccl()) text += ", NCCL";
  text += FLEXGEN_TORCH_VERSION;
  return text + ")";
}

}  // namespace flexgen
