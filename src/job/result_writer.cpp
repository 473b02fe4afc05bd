#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "base/error.hpp"
#include "job/result.hpp"

namespace flexgen {
namespace {

constexpr std::string_view full_disk_remedy = "Free some space or choose another disk";
constexpr std::string_view not_empty = "it exists and is not empty";
constexpr std::string_view overwrite_remedy = "Choose another output path, or give --overwrite";

[[noreturn]] void refuse(const std::string& path, std::string_view what, std::string_view why,
                         std::string_view suggestion = "Choose another output path") {
  throw UserError(ExitCode::file, fmt::format("cannot {} the output '{}'", what, path), why, suggestion);
}

bool is_same_file(const struct stat& a, const struct stat& b) { return a.st_dev == b.st_dev && a.st_ino == b.st_ino; }

std::string_view write_remedy(int error_number) {
  return error_number == EPIPE ? "The program that read the output has ended; keep it running" : full_disk_remedy;
}

}  // namespace

ResultWriter::ResultWriter(std::string path, ExistingFile existing)
    : path_(std::move(path)),
      display_name_(path_ == "-" ? "standard output" : fmt::format("'{}'", path_)),
      existing_(existing) {
  if (path_ == "-") file_ = FileDescriptor::borrowed(STDOUT_FILENO);
  else open_file();
}

ResultWriter::~ResultWriter() { remove_if_unused(); }

// Nothing in the file is touched yet: only its lock is taken.
void ResultWriter::open_file() {
  check_folder_of(path_, "--output");
  constexpr int most_attempts = 10;
  for (int attempt = 1;; ++attempt) {
    file_ = FileDescriptor::owned(::open(path_.c_str(), O_WRONLY | O_CLOEXEC));
    const bool is_new = !file_.is_open() && errno == ENOENT;
    if (is_new) file_ = FileDescriptor::owned(::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
    if (!file_.is_open()) refuse(path_, "open", errno_text(errno));

    struct stat status {
    }, named{};
    if (::fstat(file_.get(), &status) != 0) refuse(path_, "inspect", errno_text(errno));
    if (!S_ISREG(status.st_mode)) return;  // a pipe or device holds nothing that could be lost
    // Some network file systems have no locks; there, nothing is protected.
    if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
      refuse(path_, "write", "another process is writing to it", "Wait for that job, or choose another output path");
    const bool is_there = ::stat(path_.c_str(), &named) == 0 && is_same_file(status, named);
    if (!is_there && attempt < most_attempts) continue;  // a job that failed has removed it before the lock was taken
    has_name_ = is_there && named.st_nlink > 0;
    std::error_code error;
    if (is_new) new_file_ = std::filesystem::canonical(path_, error).string();  // a link to nothing stays a link
    if (::fstat(file_.get(), &status) == 0 && status.st_size != 0 && existing_ == ExistingFile::refuse)
      refuse(path_, "write", not_empty, overwrite_remedy);
    return;
  }
}

void ResultWriter::start() {
  const std::lock_guard lock(mutex_);
  start_locked();
}

void ResultWriter::start_locked() {
  is_started_ = true;
  for (const std::string& line : std::exchange(kept_, {})) write_line(line);
}

void ResultWriter::write(std::string_view json_line) {
  FLEXGEN_CHECK(json_line.find('\n') == json_line.npos, "a result line with a newline in it");
  const std::lock_guard lock(mutex_);
  if (is_started_) write_line(json_line);
  else kept_.emplace_back(json_line);
}

void ResultWriter::write_line(std::string_view json_line) {
  if (!failure_.empty()) throw UserError(ExitCode::file, failure_, "");
  FLEXGEN_CHECK(file_.is_open(), "write after finish");
  const std::string what = fmt::format("cannot write row {} to {}", num_rows_ + 1, display_name_);
  empty_file(what);
  check_file(what);
  line_.assign(json_line).push_back('\n');
  const WriteOutcome outcome = write_fully(file_.get(), line_);
  if (outcome.error_number != 0) {
    take_back(outcome.num_bytes);
    fail(what, errno_text(outcome.error_number), write_remedy(outcome.error_number));
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
  if (failure_.empty()) {
    start_locked();
    empty_file(what);
    check_file(what);
  }
  // Pipes, terminals and some devices have nothing to synchronise.
  if (::fsync(file_.get()) != 0 && errno != EINVAL && errno != EROFS && errno != ENOTSUP)
    fail(what, errno_text(errno), full_disk_remedy);
  if (const int error_number = file_.close(); error_number != 0) fail(what, errno_text(error_number), full_disk_remedy);
}

/// Once, before the first row: what an earlier job left goes only now.
void ResultWriter::empty_file(std::string_view what) {
  if (std::exchange(is_emptied_, true) || !has_name_) return;
  struct stat status {};
  if (::fstat(file_.get(), &status) != 0) fail(what, errno_text(errno), full_disk_remedy);
  if (status.st_size == 0) return;
  if (existing_ == ExistingFile::refuse) fail(what, not_empty, overwrite_remedy);
  if (::ftruncate(file_.get(), 0) != 0) fail(what, errno_text(errno), "Choose another output path");
}

/// Throws when the file is not what the rows written so far have made of it.
void ResultWriter::check_file(std::string_view what) {
  struct stat status {};
  const off_t end = ::lseek(file_.get(), 0, SEEK_CUR);
  if (end < 0 || ::fstat(file_.get(), &status) != 0 || !S_ISREG(status.st_mode)) return;
  if (has_name_) {
    struct stat named {};
    const bool is_there = ::stat(path_.c_str(), &named) == 0;
    if (!is_there && errno != ENOENT && errno != ENOTDIR) return;  // a network that is slow takes nothing away
    if (!is_there && status.st_nlink == 0) fail_changed(what, "it was deleted while the job ran");
    if (!is_there) fail_changed(what, "it was moved away while the job ran");
    if (!is_same_file(status, named)) fail_changed(what, "another file has taken its place while the job ran");
    if (status.st_size > end) fail_changed(what, "another program has written to it");
  }
  if (status.st_size < end)
    fail_changed(what, fmt::format("another program has cut it from {} to {} bytes", end, status.st_size));
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

/// A file that this job made for nothing does not stay.
void ResultWriter::remove_if_unused() noexcept {
  struct stat status {
  }, named{};
  if (new_file_.empty() || num_rows_ > 0 || !file_.is_open() || ::fstat(file_.get(), &status) != 0 ||
      status.st_size != 0)
    return;
  if (::stat(new_file_.c_str(), &named) == 0 && is_same_file(status, named)) ::unlink(new_file_.c_str());
}

void ResultWriter::fail_changed(std::string_view what, std::string_view why) {
  fail(what, why, "Leave the output alone until the job has ended, and run it again", false);
}

void ResultWriter::fail(std::string_view what, std::string_view why, std::string_view remedy, bool rows_are_safe) {
  const bool is_one = num_rows_ == 1;
  const std::string_view state = !rows_are_safe ? "may be lost" : is_one ? "is safe" : "are safe";
  failure_ = fmt::format("{}: {}. {}. {} finished row{} {}", what, why, remedy, num_rows_, is_one ? "" : "s", state);
  throw UserError(ExitCode::file, failure_, "");
}

}  // namespace flexgen
