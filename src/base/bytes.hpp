// Byte sizes: constants, alignment, and the text form used by flags and reports.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace flexgen {

inline constexpr std::uint64_t KiB = 1024;
inline constexpr std::uint64_t MiB = 1024 * KiB;
inline constexpr std::uint64_t GiB = 1024 * MiB;

constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}
constexpr std::uint64_t align_down(std::uint64_t value, std::uint64_t alignment) {
  return value / alignment * alignment;
}

/// Parses "15GiB", "512MiB", "1.5GB", "4096": binary units are powers of 1024, decimal ones of 1000; a bare
/// number is bytes. Throws UserError (usage) on anything else.
std::uint64_t parse_bytes(std::string_view text);

/// "14.9 GiB", "512 B".
std::string format_bytes(std::uint64_t bytes);

}  // namespace flexgen
