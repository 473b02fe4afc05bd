// Where the bytes of an input come from: a file, a pipe, or what unpacks another source.
//
// Private to the room. A source belongs to one thread.
#pragma once

#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

namespace flexgen {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// Some bytes, as many as there are at the moment, at least one; 0 at the end, now and ever after. Waits for them.
  /// Throws InputFault.
  virtual std::size_t read(std::span<char> into) = 0;
};

/// Why an input cannot be read on: the reader of rows says of which file, and behind which line.
struct InputFault : std::runtime_error {
  InputFault(const std::string& reason, std::string remedy_) : std::runtime_error(reason), remedy(std::move(remedy_)) {}
  std::string remedy;
};

}  // namespace flexgen
