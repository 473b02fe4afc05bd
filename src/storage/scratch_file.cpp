#include "storage/scratch_file.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <limits>
#include <string>
#include <utility>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "base/log.hpp"
#include "storage/aligned_buffer.hpp"

namespace flexgen {
namespace {

constexpr mode_t private_file = S_IRUSR | S_IWUSR;

[[noreturn]] void fail_directory(const std::filesystem::path& directory, std::string_view reason) {
  throw UserError(ExitCode::file, fmt::format("cannot keep scratch files in '{}'", directory.string()), reason,
                  "Name a directory with --offload-dir that you may write, on a disk with enough room");
}

// Mode 0700. Empty when it cannot be made, with errno.
std::filesystem::path make_private_directory(const std::filesystem::path& parent) {
  std::string name = (parent / fmt::format("flexgen-{}-XXXXXX", ::getpid())).string();
  return ::mkdtemp(name.data()) ? name : "";
}

// Of the open file's disk: its directory may be gone already.
std::uint64_t free_bytes_beside(int fd) {
  struct statvfs file_system {};
  if (::fstatvfs(fd, &file_system) != 0) return std::numeric_limits<std::uint64_t>::max();  // the kernel will say it
  return std::uint64_t{file_system.f_bavail} * file_system.f_frsize;
}

// Opens with O_DIRECT if asked for and allowed; `direct` becomes what is in force.
int open_scratch(const char* path, int flags, bool& direct) {
  for (;;) {
    const int fd = ::open(path, direct ? flags | O_DIRECT : flags, private_file);
    if (fd >= 0 || (errno != EINTR && !(direct && errno == EINVAL))) return fd;
    if (errno == EINVAL) {
      // O_CREAT may have made the file before the flag was refused; opening it again must not fail on that.
      flags &= ~O_EXCL;
      direct = false;
    }
  }
}

// -1 where the file system has no nameless files.
int open_nameless(const std::filesystem::path& directory, bool& direct) {
  const int fd = open_scratch(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, direct);
  if (fd >= 0) return fd;
  if (errno == EACCES || errno == EROFS || errno == ENOSPC || errno == EMFILE || errno == EDQUOT) {
    fail_directory(directory, errno_text(errno));
  }
  return -1;
}

int open_and_unlink(const std::filesystem::path& directory, bool& direct) {
  const std::filesystem::path file = directory / "scratch";
  const int fd = open_scratch(file.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, direct);
  const int open_error = errno;
  if (fd < 0) {
    ::unlink(file.c_str());
    fail_directory(directory, errno_text(open_error));
  }
  if (::unlink(file.c_str()) != 0) {
    const int unlink_error = errno;
    ::close(fd);
    fail_directory(directory, errno_text(unlink_error));
  }
  return fd;
}

// Beyond this limit the kernel sends SIGXFSZ, which kills: look first.
void check_file_size_limit(const std::filesystem::path& directory, std::uint64_t size_bytes) {
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || size_bytes <= limit.rlim_cur) return;
  throw UserError(ExitCode::does_not_fit,
                  fmt::format("cannot take {} ({} bytes) of disk in '{}'", format_bytes(size_bytes), size_bytes,
                              directory.string()),
                  fmt::format("this process may write files of at most {} bytes", std::uint64_t{limit.rlim_cur}),
                  "Raise the limit (ulimit -f) or lower --disk-mem");
}

void preallocate(int fd, const std::filesystem::path& directory, std::uint64_t size_bytes) {
  if (size_bytes == 0) return;
  check_file_size_limit(directory, size_bytes);
  const std::uint64_t free_bytes = free_bytes_beside(fd);
  int error_number = size_bytes > free_bytes ? ENOSPC : 0;  // else the kernel fills the disk before it says so
  if (error_number == 0) {
    int result;
    do result = ::fallocate(fd, 0, 0, static_cast<off_t>(size_bytes));
    while (result != 0 && errno == EINTR);
    if (result != 0) error_number = errno;
  }
  if (error_number == EOPNOTSUPP || error_number == ENOSYS) {
    // No reservation to be had: the file grows as it is written.
    error_number = ::ftruncate(fd, static_cast<off_t>(size_bytes)) == 0 ? 0 : errno;
  }
  if (error_number == 0) return;
  throw UserError(ExitCode::does_not_fit,
                  fmt::format("cannot take {} ({} bytes) of disk in '{}'", format_bytes(size_bytes), size_bytes,
                              directory.string()),
                  fmt::format("{}; {} are free", errno_text(error_number), format_bytes(free_bytes)),
                  "Lower --disk-mem, free space, or name another --offload-dir");
}

// Some file systems accept O_DIRECT at open and refuse it at the first transfer.
bool direct_write_works(int fd) {
  AlignedBuffer zeros(direct_alignment);
  ssize_t count;
  do count = ::pwrite(fd, zeros.data(), direct_alignment, 0);
  while (count < 0 && errno == EINTR);
  return count >= 0 || (errno != EINVAL && errno != ENOTSUP);
}

}  // namespace

std::filesystem::path default_offload_directory() {
  const char* place = std::getenv("TMPDIR");
  return place && *place != '\0' ? place : "/tmp";
}

UsableDirectory::UsableDirectory(const std::filesystem::path& path) {
  struct stat status {};
  int error_number = 0;
  do {  // again where another rank removes what it had made, between the two calls
    if (::mkdir(path.c_str(), S_IRWXU) == 0) {
      made_ = path;
      return;
    }
    error_number = errno;
    if (::stat(path.c_str(), &status) == 0) {
      if (!S_ISDIR(status.st_mode)) fail_directory(path, "it is not a directory");
      return;
    }
  } while (error_number == EEXIST && errno == ENOENT && !std::filesystem::is_symlink(path));
  // Missing folders above are not made: a typing error would fill the wrong disk.
  fail_directory(path, error_number == ENOENT ? "the folder above it does not exist" : errno_text(error_number));
}

void UsableDirectory::remove_if_made() noexcept {
  if (!made_.empty() && ::rmdir(made_.c_str()) == 0) made_.clear();
}

ScratchDirectory::ScratchDirectory(const std::filesystem::path& parent)
    : ScratchDirectory(UsableDirectory(), make_private_directory(parent)) {
  if (path_.empty()) fail_directory(parent, errno_text(errno));
}

ScratchDirectory::~ScratchDirectory() {
  if (!remove()) log::warn(fmt::format("could not remove '{}': {}", path_.string(), errno_text(errno)));
}

ScratchDirectory::ScratchDirectory(ScratchDirectory&& other) noexcept
    : parent_(std::move(other.parent_)), path_(std::exchange(other.path_, {})) {}

ScratchDirectory& ScratchDirectory::operator=(ScratchDirectory&& other) noexcept {
  std::swap(parent_, other.parent_);
  std::swap(path_, other.path_);
  return *this;
}

bool ScratchDirectory::remove() noexcept {
  if (!path_.empty() && (::rmdir(path_.c_str()) == 0 || errno == ENOENT)) path_.clear();
  if (path_.empty()) parent_.remove_if_made();
  return path_.empty();
}

// Descriptor of a file without a name; a directory made for it loses its name, too. Between two calls here, the rank
// that made the directory may have removed it: then it is made anew.
int ScratchFile::open(const std::filesystem::path& offload_dir, const ScratchOptions& options, bool& direct) {
  constexpr int most_attempts = 1000;
  for (int attempt = 1;; ++attempt) {
    UsableDirectory usable(offload_dir);
    direct = options.direct;
    if (options.nameless) {
      if (const int fd = open_nameless(offload_dir, direct); fd >= 0) {
        directory_ = ScratchDirectory(std::move(usable), {});
        directory_.remove();
        return fd;
      }
      if (errno == ENOENT && attempt < most_attempts) continue;
      direct = options.direct;
    }
    std::filesystem::path own = make_private_directory(offload_dir);
    if (own.empty()) {
      if (errno == ENOENT && attempt < most_attempts) continue;
      fail_directory(offload_dir, errno_text(errno));
    }
    directory_ = ScratchDirectory(std::move(usable), std::move(own));
    const int fd = open_and_unlink(directory_.path(), direct);
    directory_.remove();
    return fd;
  }
}

ScratchFile::ScratchFile(const std::filesystem::path& offload_dir, std::uint64_t size_bytes, ScratchOptions options) {
  size_bytes = align_up(size_bytes, direct_alignment);
  bool direct = false;
  const int fd = open(offload_dir, options, direct);
  handle_ = FileHandle(fd, offload_dir / "(scratch file)", direct, size_bytes);
  preallocate(fd, offload_dir, size_bytes);
  if (direct && size_bytes > 0 && !direct_write_works(fd)) handle_.stop_direct();
  if (options.direct && !handle_.direct()) log_direct_refused(offload_dir, EINVAL);
}

}  // namespace flexgen
