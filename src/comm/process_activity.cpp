#include "comm/process_activity.hpp"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>

#include "base/thread_role.hpp"

namespace flexgen {
namespace {

// What wakes once a second to look at a clock runs for less than this part of the time: 50 us. To start a kernel of a
// GPU takes more, and a rank that has no more to do than that is not to be accused.
constexpr std::uint64_t trifle = 20'000;

// Calls in which a thread waits for other threads, for time or for somebody to write to it.
constexpr std::array waits{
    SYS_futex,         SYS_ppoll,           SYS_pselect6,        SYS_epoll_pwait,
    SYS_nanosleep,     SYS_clock_nanosleep, SYS_restart_syscall, SYS_rt_sigtimedwait,
    SYS_rt_sigsuspend, SYS_accept,          SYS_accept4,         SYS_waitid,
    SYS_wait4,
#ifdef SYS_poll  // not on every processor
    SYS_poll,          SYS_select,          SYS_epoll_wait,      SYS_pause,
#endif
};

pid_t own_id() { return static_cast<pid_t>(syscall(SYS_gettid)); }

/// A file of /proc on one of this process's threads. On the stack: the watch must not wait for an allocator.
class ThreadFile {
 public:
  ThreadFile(pid_t thread, const char* name) {
    std::snprintf(text_.data(), text_.size(), "/proc/self/task/%d/%s", thread, name);
    const int fd = open(text_.data(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    length_ = read(fd, text_.data(), text_.size() - 1);
    close(fd);
    if (length_ > 0) text_[static_cast<std::size_t>(length_)] = '\0';
  }

  bool is_empty() const { return length_ <= 0; }
  const char* text() const { return text_.data(); }
  bool is(std::string_view line) const {
    return !is_empty() && std::string_view(text(), static_cast<std::size_t>(length_) - 1) == line;
  }

  /// The number behind a name, or at the start.
  std::uint64_t number(const char* name = "") const {
    const char* found = is_empty() ? nullptr : std::strstr(text(), name);
    return found ? std::strtoull(found + std::strlen(name), nullptr, 10) : 0;
  }

 private:
  std::array<char, 512> text_{};
  ssize_t length_ = 0;
};

bool waits_for_others(pid_t thread) {
  const ThreadFile call(thread, "syscall");  // "running", or the number of a call; -1: stopped elsewhere, a page fault
  if (call.is_empty() || *call.text() == 'r') return false;
  return std::find(waits.begin(), waits.end(), std::strtol(call.text(), nullptr, 10)) != waits.end();
}

std::optional<pid_t> next_thread(DIR* folder) {
  while (const dirent* entry = readdir(folder))
    if (const int id = std::atoi(entry->d_name); id > 0) return id;
  return std::nullopt;
}

}  // namespace

ProcessActivity::ProcessActivity() : threads_(opendir("/proc/self/task")) {
  while (const auto thread = threads_ ? next_thread(threads_.get()) : std::nullopt)
    if (*thread != getpid()) not_counted_.push_back(*thread);
}

bool ProcessActivity::counts(pid_t thread) const {
  return thread != own_id() && std::find(not_counted_.begin(), not_counted_.end(), thread) == not_counted_.end();
}

bool ProcessActivity::moved(std::uint64_t elapsed_ns) {
  if (!threads_) return true;
  rewinddir(threads_.get());
  std::uint64_t run_ns = 0, io_bytes = 0;
  while (const auto thread = next_thread(threads_.get())) {
    if (!counts(*thread)) continue;
    const ThreadFile role(*thread, "comm");
    if (role.is(observer_role)) continue;
    if (!waits_for_others(*thread) || role.is(input_role)) return true;
    run_ns += ThreadFile(*thread, "schedstat").number();
    const ThreadFile io(*thread, "io");
    for (const char* name : {"rchar: ", "wchar: ", "\nread_bytes: ", "\nwrite_bytes: "}) io_bytes += io.number(name);
  }
  const bool is_like_before = run_ns >= run_ns_ && run_ns - run_ns_ <= elapsed_ns / trifle && io_bytes == io_bytes_;
  run_ns_ = run_ns;
  io_bytes_ = io_bytes;
  return !is_like_before;
}

}  // namespace flexgen
