// What must hold for any bytes whatever: a reader gives a table whose extents lie inside the file, or a UserError.
#pragma once

#include <cstddef>
#include <span>
#include <stdexcept>

#include "base/error.hpp"
#include "weights/checkpoint/byte_source.hpp"
#include "weights/checkpoint/pickle.hpp"
#include "weights/checkpoint/safetensors.hpp"
#include "weights/checkpoint/torch_archive.hpp"
#include "weights/checkpoint/weight_map.hpp"

namespace flexgen::checkpoint {

enum class FuzzFormat { safetensors, torch_archive, pickle, weight_map };
inline constexpr int num_fuzz_formats = 4;

inline void check_table(const FileTable& table, std::uint64_t file_bytes) {
  for (const CheckpointTensor& tensor : table.tensors) {
    const auto elements = num_elements(tensor.shape);
    const bool fits = tensor.offset_bytes <= file_bytes && tensor.size_bytes <= file_bytes - tensor.offset_bytes;
    if (!fits || !elements || tensor.size_bytes / element_bytes(tensor.dtype) != *elements) {
      throw std::logic_error("extent of tensor " + tensor.key + " is wrong");
    }
  }
}

/// True when the bytes were accepted, false when they were refused with a UserError (model). Everything else throws
/// or crashes.
inline bool fuzz_one(FuzzFormat format, std::span<const std::byte> bytes) {
  const MemoryBytes file(bytes, "fuzzed");
  try {
    switch (format) {
      case FuzzFormat::safetensors: check_table(read_safetensors(file), bytes.size()); break;
      case FuzzFormat::torch_archive: check_table(read_torch_archive(file), bytes.size()); break;
      case FuzzFormat::pickle: parse_pickle(bytes, file.name()); break;
      case FuzzFormat::weight_map: parse_weight_map(as_text(bytes), file.name()); break;
    }
    return true;
  } catch (const UserError& error) {
    if (error.code() != ExitCode::model) throw;
    return false;
  }
}

}  // namespace flexgen::checkpoint
