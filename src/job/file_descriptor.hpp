// An owned (or borrowed) POSIX file descriptor and the few calls that the job's files share.
//
// A FileDescriptor belongs to one owner; two threads must not use one object without a lock. Nothing here throws
// except check_folder_of.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

namespace flexgen {

/// Move-only. Closes the descriptor when it owns it.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  static FileDescriptor owned(int fd) { return FileDescriptor(fd, true); }
  /// stdin, stdout: used, never closed.
  static FileDescriptor borrowed(int fd) { return FileDescriptor(fd, false); }

  FileDescriptor(FileDescriptor&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), is_owned_(std::exchange(other.is_owned_, false)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor() { close(); }

  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  /// Closes an owned descriptor, forgets a borrowed one. Returns 0 or the errno value of close(2).
  int close() noexcept;

 private:
  FileDescriptor(int fd, bool is_owned) : fd_(fd), is_owned_(is_owned) {}

  int fd_ = -1;
  bool is_owned_ = false;
};

struct WriteOutcome {
  std::size_t num_bytes = 0;  // written before the error, if any
  int error_number = 0;       // 0: everything was written
};

/// Writes all bytes, normally with one write(2). A closed pipe or a file-size limit comes back as EPIPE or EFBIG:
/// the signals SIGPIPE and SIGXFSZ, which would kill the process, are held off for the duration of the call.
WriteOutcome write_fully(int fd, std::string_view bytes) noexcept;

/// Throws UserError (file), naming the folder and `option`, unless the folder that `path` lies in exists: one that is
/// missing is a typing error more often than a wish.
void check_folder_of(const std::filesystem::path& path, std::string_view option);

/// The file at the end of links, whether it exists or not.
std::string end_of_links(std::string path);

}  // namespace flexgen
