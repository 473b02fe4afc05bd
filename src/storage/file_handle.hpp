// An open file: the descriptor, the path that messages name, and whether direct I/O is in force.
//
// Ownership: move-only, closes at the end. Thread-safety: the descriptor may be used by many threads (all I/O here
// is positional); moving or destroying is the owner's alone.
#pragma once

#include <cstdint>
#include <filesystem>

namespace flexgen {

class FileHandle {
 public:
  FileHandle() = default;
  /// Takes over an open descriptor. `size_bytes` is what readers may rely on.
  FileHandle(int fd, std::filesystem::path path, bool direct, std::uint64_t size_bytes);
  ~FileHandle();
  FileHandle(FileHandle&& other) noexcept;
  FileHandle& operator=(FileHandle&& other) noexcept;
  FileHandle(const FileHandle&) = delete;
  FileHandle& operator=(const FileHandle&) = delete;

  /// Opens an existing regular file for reading. With `direct`, the page cache is bypassed (O_DIRECT) where the file
  /// system allows it; where it does not, the file is opened buffered and the first such file is logged.
  /// Throws UserError (file) when it cannot be opened or is no regular file.
  static FileHandle open_read(const std::filesystem::path& path, bool direct);

  bool is_open() const { return fd_ >= 0; }
  int fd() const { return fd_; }
  bool direct() const { return direct_; }
  /// Goes on through the page cache, on a file system that took O_DIRECT but refuses the transfers.
  void stop_direct();
  /// Size when the file was opened (or created).
  std::uint64_t size_bytes() const { return size_bytes_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  int fd_ = -1;
  std::filesystem::path path_;
  bool direct_ = false;
  std::uint64_t size_bytes_ = 0;
};

/// Says once per process that direct I/O is not to be had here.
void log_direct_refused(const std::filesystem::path& path, int error_number);

}  // namespace flexgen
