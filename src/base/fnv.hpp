// FNV-1a, 64 bits (Fowler, Noll, Vo): the same on every machine and run, which std::hash does not promise.
#pragma once

#include <cstdint>

namespace flexgen {

inline constexpr std::uint64_t fnv_begin = 0xcbf29ce484222325ULL;

/// The hash of what `hash` stands for, with a byte more.
constexpr std::uint64_t fnv_add(std::uint64_t hash, std::uint8_t byte) { return (hash ^ byte) * 0x100000001b3ULL; }

}  // namespace flexgen
