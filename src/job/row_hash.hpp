// A number made of a row's id, the same on every machine and run.
#pragma once

#include <cstdint>
#include <string_view>

namespace flexgen {

/// FNV-1a, 64 bits.
inline std::uint64_t row_hash(std::string_view custom_id) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const unsigned char byte : custom_id) hash = (hash ^ byte) * 0x100000001b3u;
  return hash;
}

}  // namespace flexgen
