// A number made of a row's id, the same on every machine and run.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/fnv.hpp"

namespace flexgen {

inline std::uint64_t row_hash(std::string_view custom_id) {
  std::uint64_t hash = fnv_begin;
  for (const unsigned char byte : custom_id) hash = fnv_add(hash, byte);
  return hash;
}

}  // namespace flexgen
