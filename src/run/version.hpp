// What this binary is.
#pragma once

#include <string>

namespace flexgen {

/// "0.1.0 (abc1234, CUDA, NCCL, LibTorch 2.11.0)".
std::string version_text();

}  // namespace flexgen
