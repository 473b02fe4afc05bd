#include "job/input/input_file.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/error.hpp"
#include "base/thread_role.hpp"

namespace flexgen {
namespace {

constexpr int look_up_milliseconds = 50;  // of a wait, to see whether it is still wanted

FileDescriptor open_input(const std::string& path) {
  if (path == "-") return FileDescriptor::borrowed(STDIN_FILENO);
  auto file = FileDescriptor::owned(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open())
    throw UserError(ExitCode::file, fmt::format("cannot open the input {}", display_name(path)), errno_text(errno),
                    "Check the path and its permissions, or give \"-\" to read from standard input");
  return file;
}

}  // namespace

std::string display_name(const std::string& path) { return path == "-" ? "standard input" : fmt::format("'{}'", path); }

InputFile::InputFile(const std::string& path) : file_(open_input(path)) {
  struct stat status {};
  if (::fstat(file_.get(), &status) != 0) return;
  if (S_ISDIR(status.st_mode))
    throw UserError(ExitCode::file, fmt::format("cannot read the input {}", display_name(path)), "it is a folder",
                    "Give a file with one JSON object per line");
  if (S_ISREG(status.st_mode)) size_ = static_cast<std::uint64_t>(status.st_size);
}

std::size_t InputFile::read(std::span<char> into) {
  if (is_at_end_) return 0;
  if (!size_) wait_for_bytes();
  ssize_t count = 0;
  do {
    count = ::read(file_.get(), into.data(), into.size());
  } while (count < 0 && errno == EINTR);
  if (count < 0) throw InputFault(errno_text(errno), "Check the file and the disk or pipe that it comes from");
  is_at_end_ = count == 0;
  num_read_.fetch_add(static_cast<std::uint64_t>(count), std::memory_order_relaxed);
  return static_cast<std::size_t>(count);
}

// A pipe may stay silent for hours, and the job that waits for it must be able to end.
void InputFile::wait_for_bytes() const {
  const ThreadRole role(input_role);
  for (;;) {
    if (is_interrupted_.load(std::memory_order_relaxed)) throw InputFault("the job has ended", "");
    pollfd waited{file_.get(), POLLIN, 0};
    const int count = ::poll(&waited, 1, look_up_milliseconds);
    if (count > 0 || (count < 0 && errno != EINTR)) return;  // read says what is wrong
  }
}

}  // namespace flexgen
