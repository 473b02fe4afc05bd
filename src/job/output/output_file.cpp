#include "job/output/output_file.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "base/error.hpp"

namespace flexgen {
namespace {

constexpr std::string_view full_disk_remedy = "Free some space or choose another disk";

bool is_same_file(const struct stat& a, const struct stat& b) { return a.st_dev == b.st_dev && a.st_ino == b.st_ino; }

[[noreturn]] void fail(int error_number) {
  throw OutputFault{errno_text(error_number),
                    std::string(error_number == EPIPE ? "The program that read the output has ended; keep it running"
                                                      : full_disk_remedy)};
}

[[noreturn]] void fail_changed(std::string why) {
  throw OutputFault{std::move(why), "Leave the output alone until the job has ended, and run it again", false};
}

}  // namespace

OutputFile::OutputFile(std::string path, std::string_view option)
    : path_(std::move(path)),
      display_name_(path_ == "-" ? "standard output" : fmt::format("'{}'", path_)),
      packing_(packing_of_name(path_)) {
  if (path_ == "-") {
    file_ = FileDescriptor::borrowed(STDOUT_FILENO);
    return;
  }
  check_folder_of(path_, option);
  open();
}

// Nothing in the file is touched yet: only its lock is taken.
void OutputFile::open() {
  const auto refuse = [&](std::string_view what, std::string_view why, std::string_view remedy) {
    throw UserError(ExitCode::file, fmt::format("cannot {} the output '{}'", what, path_), why, remedy);
  };
  constexpr std::string_view another_path = "Choose another output path";
  constexpr int most_attempts = 10;
  for (int attempt = 1;; ++attempt) {
    lock_.reset();
    file_ = FileDescriptor::owned(::open(path_.c_str(), O_WRONLY | O_CLOEXEC));
    const bool is_new = !file_.is_open() && errno == ENOENT;
    if (is_new) file_ = FileDescriptor::owned(::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
    if (!file_.is_open()) refuse("open", errno_text(errno), another_path);

    struct stat status {
    }, named{};
    if (::fstat(file_.get(), &status) != 0) refuse("inspect", errno_text(errno), another_path);
    if (!S_ISREG(status.st_mode)) return;  // a pipe or device holds nothing that could be lost
    std::string why;
    lock_ = OutputLock::take(file_.get(), end_of_links(path_), why);
    if (!lock_) refuse("write", why, "Wait for the job that has it, or choose another output path");
    const bool is_there = ::stat(path_.c_str(), &named) == 0 && is_same_file(status, named);
    if (!is_there && attempt < most_attempts) continue;  // a job that failed has removed it before the lock was taken
    is_named_ = is_there && named.st_nlink > 0;
    std::error_code error;
    if (is_new) new_file_ = std::filesystem::canonical(path_, error).string();  // a link to nothing stays a link
    if (::fstat(file_.get(), &status) == 0) bytes_found_ = static_cast<std::uint64_t>(status.st_size);
    return;
  }
}

/// A file that was made for nothing does not stay.
OutputFile::~OutputFile() {
  struct stat status {
  }, named{};
  if (new_file_.empty() || prefix_.end_bytes > pending_.size() || !file_.is_open() ||
      ::fstat(file_.get(), &status) != 0 || status.st_size != 0)
    return;
  if (::stat(new_file_.c_str(), &named) == 0 && is_same_file(status, named)) ::unlink(new_file_.c_str());
}

void OutputFile::begin(const FilePrefix& kept) {
  if (!is_named_) return;
  struct stat status {};
  if (::fstat(file_.get(), &status) != 0) fail(errno);
  if (static_cast<std::uint64_t>(status.st_size) != bytes_found_) fail_changed("another program has written to it");
  const auto end = static_cast<off_t>(kept.end_bytes);
  if (status.st_size != end && ::ftruncate(file_.get(), end) != 0) fail(errno);
  if (::lseek(file_.get(), end, SEEK_SET) != end) fail(errno);
  prefix_ = kept;
}

FilePrefix OutputFile::with(std::string_view bytes) const {
  return {prefix_.end_bytes + bytes.size(), checksum(bytes, prefix_.checksum)};
}

void OutputFile::write(std::string_view bytes, const FilePrefix& after) {
  FLEXGEN_CHECK(file_.is_open(), "write after finish");
  pending_ += bytes;
  prefix_ = after;
}

void OutputFile::flush() {
  if (pending_.empty()) return;
  check();
  const WriteOutcome outcome = write_fully(file_.get(), pending_);
  if (outcome.error_number != 0) {
    take_back(outcome.num_bytes);
    fail(outcome.error_number);
  }
  pending_.clear();
}

void OutputFile::check() const {
  struct stat named {};
  if (is_named_) {
    const auto end = static_cast<off_t>(prefix_.end_bytes - pending_.size());
    const bool is_there = ::stat(path_.c_str(), &named) == 0;
    if (!is_there && errno != ENOENT && errno != ENOTDIR) return;  // a network that is slow takes nothing away
    struct stat status {};
    if (::fstat(file_.get(), &status) != 0) return;
    if (!is_there && status.st_nlink == 0) fail_changed("it was deleted while the job ran");
    if (!is_there) fail_changed("it was moved away while the job ran");
    if (!is_same_file(status, named)) fail_changed("another file has taken its place while the job ran");
    if (status.st_size > end) fail_changed("another program has written to it");
    if (status.st_size < end)
      fail_changed(fmt::format("another program has cut it from {} to {} bytes", end, status.st_size));
    return;
  }
  // Standard output in a file: what stands behind our end is others'.
  const off_t end = ::lseek(file_.get(), 0, SEEK_CUR);
  if (end < 0 || ::fstat(file_.get(), &named) != 0 || !S_ISREG(named.st_mode) || named.st_size >= end) return;
  fail_changed(fmt::format("another program has cut it from {} to {} bytes", end, named.st_size));
}

/// Cuts the last `num_bytes` off, unless the file is no regular one or somebody has written behind them (standard
/// output may be shared).
void OutputFile::take_back(std::size_t num_bytes) {
  if (num_bytes == 0) return;
  const off_t end = ::lseek(file_.get(), 0, SEEK_CUR);
  struct stat status {};
  if (end < 0 || ::fstat(file_.get(), &status) != 0 || !S_ISREG(status.st_mode) || status.st_size != end) return;
  const off_t row_begin = end - static_cast<off_t>(num_bytes);
  if (::ftruncate(file_.get(), row_begin) == 0) ::lseek(file_.get(), row_begin, SEEK_SET);
}

void OutputFile::synchronise() const {
  if (const int error_number = flexgen::synchronise(file_.get()); error_number != 0) fail(error_number);
}

void OutputFile::close() {
  if (const int error_number = file_.close(); error_number != 0) fail(error_number);
  lock_.reset();
}

int synchronise(int fd) {
  // Pipes, terminals and some devices have nothing to synchronise.
  return ::fsync(fd) == 0 || errno == EINVAL || errno == EROFS || errno == ENOTSUP ? 0 : errno;
}

int synchronise_folder_of(const std::string& path) {
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  const auto opened =
      FileDescriptor::owned(::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return opened.is_open() ? synchronise(opened.get()) : 0;  // one that may be written but not read
}

}  // namespace flexgen
