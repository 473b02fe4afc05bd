#include "job/file_descriptor.hpp"

#include <fmt/core.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <system_error>

#include "base/error.hpp"

namespace flexgen {
namespace {

/// Blocks one signal for this thread and swallows the one that the guarded call raised.
class HeldSignal {
 public:
  explicit HeldSignal(int signal_number) {
    sigset_t pending;
    sigemptyset(&set_);
    sigaddset(&set_, signal_number);
    sigemptyset(&pending);
    sigpending(&pending);
    // One that was pending before is somebody else's: it is left for the time after us.
    was_pending_ = sigismember(&pending, signal_number) == 1;
    is_held_ = pthread_sigmask(SIG_BLOCK, &set_, &previous_) == 0;
  }
  HeldSignal(const HeldSignal&) = delete;
  HeldSignal& operator=(const HeldSignal&) = delete;
  ~HeldSignal() {
    if (!is_held_) return;
    const timespec no_wait{};
    if (!was_pending_)
      while (sigtimedwait(&set_, nullptr, &no_wait) < 0 && errno == EINTR) {
      }
    pthread_sigmask(SIG_SETMASK, &previous_, nullptr);
  }

 private:
  sigset_t set_{};
  sigset_t previous_{};
  bool was_pending_ = false;
  bool is_held_ = false;
};

}  // namespace

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = std::exchange(other.fd_, -1);
    is_owned_ = std::exchange(other.is_owned_, false);
  }
  return *this;
}

int FileDescriptor::close() noexcept {
  const int fd = std::exchange(fd_, -1);
  if (!std::exchange(is_owned_, false) || fd < 0) return 0;
  // Linux frees the descriptor even when close is interrupted: no retry.
  return ::close(fd) == 0 || errno == EINTR ? 0 : errno;
}

WriteOutcome write_fully(int fd, std::string_view bytes) noexcept {
  const HeldSignal no_broken_pipe(SIGPIPE);
  const HeldSignal no_size_limit(SIGXFSZ);
  WriteOutcome outcome;
  while (outcome.num_bytes < bytes.size()) {
    const ssize_t count = ::write(fd, bytes.data() + outcome.num_bytes, bytes.size() - outcome.num_bytes);
    if (count > 0) {
      outcome.num_bytes += static_cast<std::size_t>(count);
    } else if (count == 0 || errno != EINTR) {
      outcome.error_number = count == 0 ? EIO : errno;
      break;
    }
  }
  return outcome;
}

void check_folder_of(const std::filesystem::path& path, std::string_view option) {
  const std::filesystem::path whole = path.has_filename() ? path : path.parent_path();  // "folder/"
  const std::string folder = whole.has_parent_path() ? whole.parent_path().string() : ".";
  struct stat status {};
  std::string why;
  if (::stat(folder.c_str(), &status) == 0) {
    if (S_ISDIR(status.st_mode)) return;
    why = fmt::format("'{}' is no folder", folder);
  } else {
    why = errno == ENOENT ? fmt::format("there is no folder '{}'", folder)
                          : fmt::format("the folder '{}': {}", folder, errno_text(errno));
  }
  throw UserError(ExitCode::file, fmt::format("cannot write '{}'", path.string()), why,
                  fmt::format("Make the folder, or check {}", option));
}

std::string end_of_links(std::string path) {
  constexpr int most_links = 40;  // the kernel's own limit
  std::error_code error;
  for (int i = 0; i < most_links && std::filesystem::is_symlink(path, error); ++i)
    path = (std::filesystem::path(path).parent_path() / std::filesystem::read_symlink(path, error)).string();
  return path;
}

}  // namespace flexgen
