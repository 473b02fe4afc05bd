#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/error.hpp"
#include "fmt/format.h"
#include "job/result.hpp"

namespace flexgen {
namespace {

FileDescriptor open_output(const std::string& path, ExistingFile existing) {
  create_parent_directories(path);
  auto file = FileDescriptor::owned(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
  const auto refuse = [&path](std::string_view what, std::string_view why, std::string_view suggestion) {
    throw UserError(ExitCode::file, fmt::format("cannot {} the output '{}'", what, path), why, suggestion);
  };
  if (!file.is_open()) refuse("open", errno_text(errno), "Choose another output path");

  struct stat status {};
  if (::fstat(file.get(), &status) != 0) refuse("inspect", errno_text(errno), "Choose another output path");
  if (!S_ISREG(status.st_mode)) return file;  // a pipe or device holds nothing that could be lost
  // Taken before the file is emptied. Some network file systems have no locks; there, nothing is protected.
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
    refuse("write", "another process is writing to it", "Wait for that job, or choose another output path");
  if (status.st_size == 0) return file;
  if (existing == ExistingFile::refuse)
    refuse("write", "it exists and is not empty", "Choose another output path, or allow it to be overwritten");
  if (::ftruncate(file.get(), 0) != 0) refuse("empty", errno_text(errno), "Choose another output path");
  return file;
}

}  // namespace

ResultWriter::ResultWriter(std::string path, ExistingFile existing)
    : display_name_(path == "-" ? "standard output" : fmt::format("'{}'", path)),
      file_(path == "-" ? FileDescriptor::borrowed(STDOUT_FILENO) : open_output(path, existing)) {}

void ResultWriter::write(std::string_view json_line) {
  FLEXGEN_CHECK(json_line.find('\n') == json_line.npos, "a result line with a newline in it");
  const std::lock_guard lock(mutex_);
  const std::string what = fmt::format("cannot write row {} to {}", num_rows_ + 1, display_name_);
  if (failed_with_ != 0) fail(what, failed_with_);
  FLEXGEN_CHECK(file_.is_open(), "write after finish");
  line_.assign(json_line).push_back('\n');
  const WriteOutcome outcome = write_fully(file_.get(), line_);
  if (outcome.error_number != 0) {
    failed_with_ = outcome.error_number;
    take_back(outcome.num_bytes);
    fail(what, failed_with_);
  }
  ++num_rows_;
}

std::size_t ResultWriter::num_rows() const {
  const std::lock_guard lock(mutex_);
  return num_rows_;
}

void ResultWriter::finish() {
  const std::lock_guard lock(mutex_);
  if (!file_.is_open()) return;
  const std::string what = fmt::format("cannot bring {} to the disk", display_name_);
  // Pipes, terminals and some devices have nothing to synchronise.
  if (::fsync(file_.get()) != 0 && errno != EINVAL && errno != EROFS && errno != ENOTSUP) fail(what, errno);
  if (const int error_number = file_.close(); error_number != 0) fail(what, error_number);
}

/// Cuts the last `num_bytes` off, unless the file is no regular one or somebody has written behind them (standard
/// output may be shared).
void ResultWriter::take_back(std::size_t num_bytes) {
  if (num_bytes == 0) return;
  const off_t end = ::lseek(file_.get(), 0, SEEK_CUR);
  struct stat status {};
  if (end < 0 || ::fstat(file_.get(), &status) != 0 || !S_ISREG(status.st_mode) || status.st_size != end) return;
  const off_t row_begin = end - static_cast<off_t>(num_bytes);
  if (::ftruncate(file_.get(), row_begin) == 0) ::lseek(file_.get(), row_begin, SEEK_SET);
}

void ResultWriter::fail(std::string_view what, int error_number) const {
  const std::string_view remedy = error_number == EPIPE ? "The program that read the output has ended; keep it running"
                                                        : "Free some space or choose another disk";
  throw UserError(ExitCode::file, what, errno_text(error_number),
                  fmt::format("{}. {} finished row{} safe", remedy, num_rows_, num_rows_ == 1 ? " is" : "s are"));
}

}  // namespace flexgen
