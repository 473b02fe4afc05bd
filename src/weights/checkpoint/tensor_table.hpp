// What a checkpoint reader finds out about one file: where each tensor's bytes lie.
//
// Plain immutable data, owned by value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "spec/dtype.hpp"

namespace flexgen {

/// A tensor that the engine can read in place: contiguous, row-major, little-endian.
struct CheckpointTensor {
  std::string key{};
  DType dtype{};
  std::vector<std::int64_t> shape{};
  std::size_t file = 0;            // index in Checkpoint::files()
  std::uint64_t offset_bytes = 0;  // from the start of the file
  std::uint64_t size_bytes = 0;    // product of shape * element_bytes(dtype)
};

/// A tensor whose element type we never compute with (integers, float8 ...).
struct UnsupportedTensor {
  std::string key{};
  std::string dtype{};  // as the file calls it
  std::size_t file = 0;
  std::uint64_t offset_bytes = 0;  // from the start of the file; 0 with size 0 where the format is not read in place
  std::uint64_t size_bytes = 0;
};

namespace checkpoint {

/// One file's tensors; `file` is 0 in all of them.
struct FileTable {
  std::vector<CheckpointTensor> tensors;
  std::vector<UnsupportedTensor> unsupported;
};

/// More axes than any framework writes are refused, so that a shape shared by many tensors stays small.
inline constexpr std::size_t max_num_axes = 64;

/// Product of `shape` (1 for a scalar); empty when an axis is negative or the product passes 2^64.
inline std::optional<std::uint64_t> num_elements(std::span<const std::int64_t> shape) {
  std::uint64_t product = 1;
  bool has_zero = false;
  for (const std::int64_t axis : shape) {
    if (axis < 0) return std::nullopt;
    if (axis == 0) {
      has_zero = true;
    } else if (__builtin_mul_overflow(product, static_cast<std::uint64_t>(axis), &product)) {
      return std::nullopt;
    }
  }
  return has_zero ? 0 : product;
}

}  // namespace checkpoint
}  // namespace flexgen
