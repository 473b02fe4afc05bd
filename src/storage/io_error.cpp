#include "storage/io_error.hpp"

#include <fmt/core.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <string>

#include "base/bytes.hpp"

namespace flexgen {
namespace {

std::string path_of(int fd) {
  char target[PATH_MAX];
  const ssize_t length = ::readlink(fmt::format("/proc/self/fd/{}", fd).c_str(), target, sizeof target);
  return length > 0 ? std::string(target, static_cast<std::size_t>(length)) : fmt::format("descriptor {}", fd);
}

std::string reason_of(int fd, std::uint64_t size_bytes, int error_number) {
  if (error_number == end_of_file) {
    struct stat status {};
    return ::fstat(fd, &status) == 0 ? fmt::format("the file ends at byte {}", status.st_size) : "the file ends before";
  }
  if (error_number == ENOSPC || error_number == EDQUOT) {
    struct statvfs file_system {};
    const std::uint64_t free_bytes =
        ::fstatvfs(fd, &file_system) == 0 ? std::uint64_t{file_system.f_bavail} * file_system.f_frsize : 0;
    return fmt::format("disk full: {} bytes wanted, {} free ({})", size_bytes, format_bytes(free_bytes),
                       errno_text(error_number));
  }
  return errno_text(error_number);
}

const char* remedy_of(bool write, int error_number) {
  switch (error_number) {
    case end_of_file: return "It was cut short or changed while in use: fetch it again";
    case ENOSPC:
    case EDQUOT: return "Lower --disk-mem, free space, or name another --offload-dir";
    case EFBIG: return "Raise the file size limit (ulimit -f) or name an --offload-dir on another file system";
    case EINVAL: return "Direct I/O wants offset, length and memory address in multiples of 4096";
    case EIO: return write ? "Check the disk (dmesg), or name another --offload-dir" : "Check the disk (dmesg)";
    default: return "Check the disk and the permissions of the file";
  }
}

}  // namespace

UserError io_error(int fd, bool write, std::uint64_t offset_bytes, std::uint64_t size_bytes, int error_number) {
  return UserError(ExitCode::file,
                   fmt::format("cannot {} {} bytes at byte {} of '{}'", write ? "write" : "read", size_bytes,
                               offset_bytes, path_of(fd)),
                   reason_of(fd, size_bytes, error_number), remedy_of(write, error_number));
}

}  // namespace flexgen
