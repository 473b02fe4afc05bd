#include "storage/file_handle.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <utility>

#include "base/error.hpp"
#include "base/log.hpp"
#include "storage/aligned_buffer.hpp"

namespace flexgen {
namespace {

int open_retrying(const char* path, int flags) {
  int fd;
  do fd = ::open(path, flags);
  while (fd < 0 && errno == EINTR);
  return fd;
}

// Some file systems accept O_DIRECT at open and refuse it at the first transfer.
bool direct_read_works(int fd) {
  AlignedBuffer block(direct_alignment);
  ssize_t count;
  do count = ::pread(fd, block.data(), direct_alignment, 0);
  while (count < 0 && errno == EINTR);
  return count >= 0 || (errno != EINVAL && errno != ENOTSUP);
}

[[noreturn]] void fail_open(const std::filesystem::path& path, int error_number) {
  throw UserError(
      ExitCode::file, fmt::format("cannot open '{}'", path.string()), errno_text(error_number),
      error_number == EMFILE ? "Raise the limit of open files (ulimit -n)" : "Check the path and its permissions");
}

}  // namespace

FileHandle::FileHandle(int fd, std::filesystem::path path, bool direct, std::uint64_t size_bytes)
    : fd_(fd), path_(std::move(path)), direct_(direct), size_bytes_(size_bytes) {}

FileHandle::~FileHandle() {
  if (fd_ >= 0 && ::close(fd_) != 0 && errno != EINTR) {
    log::warn(fmt::format("closing '{}' failed: {}", path_.string(), errno_text(errno)));
  }
}

FileHandle::FileHandle(FileHandle&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      path_(std::move(other.path_)),
      direct_(other.direct_),
      size_bytes_(std::exchange(other.size_bytes_, 0)) {}

FileHandle& FileHandle::operator=(FileHandle&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  std::swap(direct_, other.direct_);
  std::swap(size_bytes_, other.size_bytes_);
  return *this;
}

FileHandle FileHandle::open_read(const std::filesystem::path& path, bool direct) {
  const int flags = O_RDONLY | O_CLOEXEC;
  int fd = open_retrying(path.c_str(), direct ? flags | O_DIRECT : flags);
  if (fd < 0 && direct && (errno == EINVAL || errno == ENOTSUP)) {
    log_direct_refused(path, errno);
    direct = false;
    fd = open_retrying(path.c_str(), flags);
  }
  if (fd < 0) fail_open(path, errno);
  FileHandle handle(fd, path, direct, 0);
  struct stat status {};
  if (::fstat(fd, &status) != 0) fail_open(path, errno);
  if (!S_ISREG(status.st_mode)) {
    throw UserError(ExitCode::file, fmt::format("cannot read '{}'", path.string()), "it is not a regular file",
                    "Name the file itself");
  }
  handle.size_bytes_ = static_cast<std::uint64_t>(status.st_size);
  if (direct && !direct_read_works(fd)) {
    log_direct_refused(path, errno);
    handle.stop_direct();
  }
  return handle;
}

void FileHandle::stop_direct() {
  const int flags = ::fcntl(fd_, F_GETFL);
  if (flags < 0 || ::fcntl(fd_, F_SETFL, flags & ~O_DIRECT) != 0) {
    throw SystemError(ExitCode::file, fmt::format("turning direct I/O off for '{}'", path_.string()),
                      errno_text(errno));
  }
  direct_ = false;
}

void log_direct_refused(const std::filesystem::path& path, int error_number) {
  static std::atomic<bool> said{false};
  if (said.exchange(true)) return;
  log::info(fmt::format("the file system of '{}' refuses direct I/O ({}): reading and writing through the page cache",
                        path.string(), errno_text(error_number)));
}

}  // namespace flexgen
