// The forms in which files of rows and of results are packed.
#pragma once

#include <cstdint>

namespace flexgen {

enum class Packing : std::uint8_t { none, gzip, zstd };

}  // namespace flexgen
