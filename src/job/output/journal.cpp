#include "job/output/journal.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "job/output/output_file.hpp"

namespace flexgen {
namespace {

constexpr std::size_t write_bytes = MiB;

/// Returns -1 and sets errno where that fails.
int make_nameless_file() {
  std::error_code ignored;
  std::string name = (std::filesystem::temp_directory_path(ignored) / "flexgen-lines-XXXXXX").string();
  const int fd = ::mkostemp(name.data(), O_CLOEXEC);
  if (fd >= 0) ::unlink(name.c_str());
  return fd;
}

/// Returns 0 or an errno value.
int read_fully(int fd, std::uint64_t offset_bytes, std::string& to) {
  std::size_t done = 0;
  while (done < to.size()) {
    const ssize_t count = ::pread(fd, to.data() + done, to.size() - done, static_cast<off_t>(offset_bytes + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return count < 0 ? errno : EIO;
    done += static_cast<std::size_t>(count);
  }
  return 0;
}

}  // namespace

Journal::Journal(std::string path) : path_(std::move(path)) {
  if (path_.empty()) return;
  file_ = FileDescriptor::owned(::open(path_.c_str(), O_RDWR | O_APPEND | O_CLOEXEC));
  struct stat status {};
  if (!file_.is_open()) {
    if (errno != ENOENT) fail(errno);
    return;
  }
  if (::fstat(file_.get(), &status) != 0) fail(errno);
  if (!S_ISREG(status.st_mode)) fail(EINVAL);
  written_bytes_ = static_cast<std::uint64_t>(status.st_size);
}

std::string Journal::text() const {
  std::string text(written_bytes_, '\0');
  if (const int error_number = read_fully(file_.get(), 0, text); error_number != 0) fail(error_number);
  return text;
}

void Journal::replace(JournalState& state) {
  if (is_there()) flush();
  const std::string new_path = path_ + ".new";
  auto next = FileDescriptor::owned(
      path_.empty() ? make_nameless_file()
                    : ::open(new_path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666));
  if (!next.is_open()) fail(errno);
  std::uint64_t size_bytes = 0;
  std::string text;
  const auto flush = [&] {
    if (const WriteOutcome outcome = write_fully(next.get(), text); outcome.error_number != 0) {
      if (!path_.empty()) ::unlink(new_path.c_str());
      fail(outcome.error_number);
    }
    size_bytes += text.size();
    text.clear();
  };
  append_record(state.head, text);
  // Held lines are no part of the base: each brings its own record.
  BaseRecord base{state.done, state.totals, state.files};
  std::map<std::uint64_t, HeldLine> held = state.held;
  append_record(base, text);
  for (auto& [ordinal, line] : held) {
    const std::string content = read(line);
    append_record(HeldRecord{ordinal, line.file, {}, content}, text);
    line.offset_bytes = size_bytes + text.size() - 1 - content.size();
    if (text.size() >= write_bytes) flush();
  }
  if (state.is_complete) append_record(CompleteRecord{}, text);
  flush();
  if (!path_.empty()) {
    if (const int error_number = synchronise(next.get()); error_number != 0) fail(error_number);
    if (std::rename(new_path.c_str(), path_.c_str()) != 0) fail(errno);
    if (const int error_number = synchronise_folder_of(path_); error_number != 0) fail(error_number);
  }
  file_ = std::move(next);
  written_bytes_ = size_bytes;
  pending_.clear();
  state.held = std::move(held);
}

void Journal::flush() {
  if (pending_.empty()) return;
  const WriteOutcome outcome = write_fully(file_.get(), pending_);
  if (outcome.error_number != 0) {
    // What is left of a torn record hides those behind it.
    if (outcome.num_bytes > 0 && ::ftruncate(file_.get(), static_cast<off_t>(written_bytes_)) != 0) fail(errno);
    fail(outcome.error_number);
  }
  written_bytes_ += pending_.size();
  pending_.clear();
}

std::string Journal::read(const HeldLine& line) {
  if (line.offset_bytes + line.size_bytes > written_bytes_) flush();
  std::string content(line.size_bytes, '\0');
  if (const int error_number = read_fully(file_.get(), line.offset_bytes, content); error_number != 0)
    fail(error_number);
  return content;
}

void Journal::fail(int error_number) const {
  throw OutputFault{fmt::format("{}: {}",
                                path_.empty() ? "lines that wait, in the folder for temporary files"
                                              : fmt::format("the journal '{}'", path_),
                                errno_text(error_number)),
                    "Free some space or choose another disk"};
}

}  // namespace flexgen
