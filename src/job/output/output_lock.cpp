#include "job/output/output_lock.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <fstream>
#include <mutex>
#include <thread>

#include "base/error.hpp"
#include "job/file_descriptor.hpp"

namespace flexgen {
namespace {

constexpr std::chrono::seconds heartbeat{5};
constexpr std::int64_t most_silent_seconds = 60;

std::string own_host() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
}

struct Owner {
  std::string host;
  pid_t process = 0;
};

Owner read_owner(const std::string& lock_path) {
  Owner owner;
  std::ifstream(lock_path) >> owner.host >> owner.process;
  return owner;
}

bool is_gone(const Owner& owner) {
  return owner.host == own_host() && owner.process > 0 && ::kill(owner.process, 0) != 0 && errno == ESRCH;
}

/// Says what errno does.
std::string cannot_lock(const std::string& lock_path) {
  return fmt::format("its file system has no locks, and a file that stands for one cannot be made, '{}': {}", lock_path,
                     errno_text(errno));
}

}  // namespace

/// Made under a name of its own and then linked to the lock's name: that happens once, on every file system.
class OutputLock::LockFile {
 public:
  static std::unique_ptr<LockFile> take(const std::string& path, std::string& why) {
    const std::string lock_path = path + ".lock";
    const std::string own_path = fmt::format("{}.{}.{}", lock_path, own_host(), ::getpid());
    auto file = FileDescriptor::owned(::open(own_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    struct stat own {};
    const bool is_made =
        file.is_open() && write_fully(file.get(), fmt::format("{} {}\n", own_host(), ::getpid())).error_number == 0;
    bool is_taken = false;
    if (!is_made || ::fstat(file.get(), &own) != 0) why = cannot_lock(own_path);
    else is_taken = link_or_replace(own_path, lock_path, own, why);
    ::unlink(own_path.c_str());
    if (!is_taken) return nullptr;
    return std::make_unique<LockFile>(lock_path, std::move(file));
  }

  LockFile(std::string lock_path, FileDescriptor file)
      : path_(std::move(lock_path)), file_(std::move(file)), beat_([this](const std::stop_token& stop) {
          std::unique_lock lock(mutex_);
          while (!wake_.wait_for(lock, stop, heartbeat, [] { return false; }) && !stop.stop_requested())
            ::futimens(file_.get(), nullptr);
        }) {}
  LockFile(const LockFile&) = delete;
  LockFile& operator=(const LockFile&) = delete;
  ~LockFile() {
    struct stat own {
    }, named{};
    if (::fstat(file_.get(), &own) == 0 && ::stat(path_.c_str(), &named) == 0 && own.st_ino == named.st_ino)
      ::unlink(path_.c_str());
  }

 private:
  /// What is left behind by a process that is gone makes way. Two that find it so at once: one of them moves away the
  /// file that both have seen; the other one moves away nothing, or a new file, which it puts back.
  static bool link_or_replace(const std::string& own_path, const std::string& lock_path, const struct stat& own,
                              std::string& why) {
    constexpr int most_attempts = 3;
    for (int attempt = 0; attempt < most_attempts; ++attempt) {
      if (::link(own_path.c_str(), lock_path.c_str()) == 0) return true;
      if (errno != EEXIST) {
        why = cannot_lock(lock_path);
        return false;
      }
      struct stat found {
      }, moved{};
      if (::stat(lock_path.c_str(), &found) != 0) continue;
      const Owner owner = read_owner(lock_path);
      if (!is_gone(owner) && own.st_mtime - found.st_mtime < most_silent_seconds) {
        why = fmt::format(
            "another process is writing to it, {} on {}, as '{}' says, which counts for nothing {} s "
            "after the last sign of life",
            owner.process, owner.host, lock_path, most_silent_seconds);
        return false;
      }
      const std::string old_path = own_path + ".old";
      if (::rename(lock_path.c_str(), old_path.c_str()) != 0) continue;
      const bool is_that = ::stat(old_path.c_str(), &moved) == 0 && moved.st_ino == found.st_ino;
      if (!is_that) ::link(old_path.c_str(), lock_path.c_str());
      ::unlink(old_path.c_str());
    }
    why = fmt::format("others take it at the same time, by '{}'", lock_path);
    return false;
  }

  std::string path_;
  FileDescriptor file_;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::jthread beat_;  // last: it ends first
};

OutputLock::OutputLock(std::unique_ptr<LockFile> file) : file_(std::move(file)) {}
OutputLock::OutputLock(OutputLock&&) noexcept = default;
OutputLock& OutputLock::operator=(OutputLock&&) noexcept = default;
OutputLock::~OutputLock() = default;

std::optional<OutputLock> OutputLock::take(int fd, const std::string& path, std::string& why) {
  why.clear();
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return OutputLock(nullptr);
  if (errno == EWOULDBLOCK) {
    why = "another process is writing to it";
    return std::nullopt;
  }
  std::unique_ptr<LockFile> file = LockFile::take(path, why);
  if (!file) return std::nullopt;
  return OutputLock(std::move(file));
}

}  // namespace flexgen
