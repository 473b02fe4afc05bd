// Bytes that a checkpoint reader looks into: a file on disk, or memory (tests, fuzzing).
//
// Immutable after construction; thread-safe. A FileBytes owns its descriptor; a MemoryBytes borrows its bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace flexgen::checkpoint {

class ByteSource {
 public:
  virtual ~ByteSource() = default;

  /// For messages.
  virtual const std::string& name() const = 0;
  virtual std::uint64_t size_bytes() const = 0;

  /// Fills dst from [offset_bytes, offset_bytes + dst.size()). Throws UserError (model) naming the file and
  /// `what` when the range passes the end or the system fails.
  virtual void read(std::uint64_t offset_bytes, std::span<std::byte> dst, std::string_view what) const = 0;

 protected:
  ByteSource() = default;
  ByteSource(const ByteSource&) = default;
  ByteSource& operator=(const ByteSource&) = default;
};

class FileBytes final : public ByteSource {
 public:
  /// Opens a regular file (symbolic links are followed: Hugging Face's cache is made of them).
  explicit FileBytes(const std::filesystem::path& path);
  ~FileBytes() override;
  FileBytes(const FileBytes&) = delete;
  FileBytes& operator=(const FileBytes&) = delete;

  const std::string& name() const override { return name_; }
  std::uint64_t size_bytes() const override { return size_bytes_; }
  void read(std::uint64_t offset_bytes, std::span<std::byte> dst, std::string_view what) const override;

 private:
  std::string name_;
  int descriptor_ = -1;
  std::uint64_t size_bytes_ = 0;
};

class MemoryBytes final : public ByteSource {
 public:
  MemoryBytes(std::span<const std::byte> bytes, std::string name) : bytes_(bytes), name_(std::move(name)) {}

  const std::string& name() const override { return name_; }
  std::uint64_t size_bytes() const override { return bytes_.size(); }
  void read(std::uint64_t offset_bytes, std::span<std::byte> dst, std::string_view what) const override;

 private:
  std::span<const std::byte> bytes_;
  std::string name_;
};

/// Little-endian unsigned integer of T's size at the front of `bytes`, which must hold it.
template <class T>
T load_little_endian(std::span<const std::byte> bytes) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    value = static_cast<T>(value | static_cast<T>(std::to_integer<T>(bytes[i]) << (8 * i)));
  }
  return value;
}

inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace flexgen::checkpoint
