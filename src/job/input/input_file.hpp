// An input as it is named on the command line: a file, or standard input.
//
// Private to the room. Owns its descriptor. One thread reads; `num_read` and `interrupt` may be called by others.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "job/file_descriptor.hpp"
#include "job/input/byte_source.hpp"

namespace flexgen {

/// What an input is called in messages: its path in quotes, or "standard input".
std::string display_name(const std::string& path);

class InputFile final : public ByteSource {
 public:
  /// @param path  a file, or "-" for standard input. Throws UserError (file) where it cannot be opened.
  explicit InputFile(const std::string& path);

  std::size_t read(std::span<char> into) override;

  /// Nothing for what is no regular file.
  std::optional<std::uint64_t> size() const { return size_; }
  std::uint64_t num_read() const { return num_read_.load(std::memory_order_relaxed); }
  /// Has a read that waits, and every later one, end with an InputFault.
  void interrupt() { is_interrupted_.store(true, std::memory_order_relaxed); }

 private:
  void wait_for_bytes() const;

  FileDescriptor file_;
  std::optional<std::uint64_t> size_;
  std::atomic<std::uint64_t> num_read_ = 0;
  std::atomic<bool> is_interrupted_ = false;
  bool is_at_end_ = false;  // asking a terminal again would wait again
};

}  // namespace flexgen
