// Packed output files: lines as whole gzip members or Zstandard frames, which may follow each other in a file.
//
// Pure functions. A file that ends behind any member is a whole file: RFC 1952 (gzip), RFC 8878 (Zstandard).
#pragma once

#include <string>
#include <string_view>

#include "job/packing.hpp"

namespace flexgen {

/// By the name's ending: ".gz", ".zst".
Packing packing_of_name(std::string_view path);

/// `bytes` as one member; of none, an empty one. Throws InternalError where the library fails.
std::string pack(Packing packing, std::string_view bytes);

}  // namespace flexgen
