// The one place where a failed file transfer becomes a message.
#pragma once

#include <cstdint>

#include "base/error.hpp"

namespace flexgen {

/// Stands for an errno where a read met the end of the file.
inline constexpr int end_of_file = 0;

/// Describes a transfer of `size_bytes` at `offset_bytes` of `fd` that failed with `error_number` (or
/// `end_of_file`). The path is looked up from the descriptor.
UserError io_error(int fd, bool write, std::uint64_t offset_bytes, std::uint64_t size_bytes, int error_number);

}  // namespace flexgen
