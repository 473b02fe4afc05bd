// Writes memory of any alignment to block-aligned places of files: the counterpart of direct_reader.hpp.
//
// File offset and length stay multiples of 4096 (only whole blocks are written). A source that is not aligned is
// assembled in bounce slots while earlier slots are being written; an aligned one is written straight from memory.
//
// Ownership: files and sources are borrowed. Thread-safety: as the IoQueue, one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "storage/file_handle.hpp"
#include "storage/io_queue.hpp"

namespace flexgen {

/// Writes the first `size_bytes` of head + body + zeros to the file.
struct ExtentWrite {
  const FileHandle* file = nullptr;
  std::uint64_t offset_bytes = 0;  // multiple of direct_alignment
  std::uint64_t size_bytes = 0;    // multiple of direct_alignment
  std::span<const std::byte> head;
  std::span<const std::byte> body;
};

/// Writes all extents with one deep queue, using the queue's bounce area. Extents must not overlap.
/// Throws UserError (file) on the first error; what was written by then is unspecified.
void write_extents(IoQueue& queue, std::span<const ExtentWrite> writes);

}  // namespace flexgen
