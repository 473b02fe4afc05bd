#include "storage/scratch_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>
#include <system_error>
#include <utility>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "base/log.hpp"
#include "storage/aligned_buffer.hpp"
#include "storage/host_memory.hpp"

namespace flexgen {
namespace {

constexpr mode_t private_file = S_IRUSR | S_IWUSR;

[[noreturn]] void fail_directory(const std::filesystem::path& directory, std::string_view reason) {
  throw UserError(ExitCode::file, fmt::format("cannot use '{}' as --offload-dir", directory.string()), reason,
                  "Name a directory that you may write, on a disk with enough room");
}

void make_parent(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) fail_directory(directory, error.message());
  if (!std::filesystem::is_directory(directory, error)) fail_directory(directory, "it is not a directory");
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
  const std::uint64_t free_bytes = free_disk_bytes(directory);
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

ScratchDirectory::ScratchDirectory(const std::filesystem::path& parent) {
  make_parent(parent);
  std::string name = (parent / fmt::format("flexgen-{}-XXXXXX", ::getpid())).string();
  if (!::mkdtemp(name.data())) fail_directory(parent, errno_text(errno));  // mode 0700
  path_ = name;
}

ScratchDirectory::~ScratchDirectory() {
  if (!remove()) log::warn(fmt::format("could not remove '{}': {}", path_.string(), errno_text(errno)));
}

ScratchDirectory::ScratchDirectory(ScratchDirectory&& other) noexcept : path_(std::exchange(other.path_, {})) {}

ScratchDirectory& ScratchDirectory::operator=(ScratchDirectory&& other) noexcept {
  std::swap(path_, other.path_);
  return *this;
}

bool ScratchDirectory::remove() noexcept {
  if (!path_.empty() && (::rmdir(path_.c_str()) == 0 || errno == ENOENT)) path_.clear();
  return path_.empty();
}

ScratchFile::ScratchFile(const std::filesystem::path& offload_dir, std::uint64_t size_bytes, ScratchOptions options) {
  make_parent(offload_dir);
  size_bytes = align_up(size_bytes, direct_alignment);
  bool direct = options.direct;
  int fd = options.nameless ? open_nameless(offload_dir, direct) : -1;
  if (fd < 0) {
    direct = options.direct;
    directory_ = ScratchDirectory(offload_dir);
    fd = open_and_unlink(directory_.path(), direct);
    directory_.remove();
  }
  handle_ = FileHandle(fd, offload_dir / "(scratch file)", direct, size_bytes);
  preallocate(fd, offload_dir, size_bytes);
  if (direct && size_bytes > 0 && !direct_write_works(fd)) handle_.stop_direct();
  if (options.direct && !handle_.direct()) log_direct_refused(offload_dir, EINVAL);
}

}  // namespace flexgen
