// The right to write to a file, which one process has at a time and which ends with that process.
//
// flock(2) where the file system knows it. Where it does not (some network and cluster file systems) a file FILE.lock
// stands for it, which names host and process and whose time is set anew every few seconds: it counts for nothing once
// its process is gone from this host, or its time stands still for a minute.
//
// Move-only. Thread-safety: belongs to one thread; the heartbeat has one of its own.
#pragma once

#include <memory>
#include <optional>
#include <string>

namespace flexgen {

class OutputLock {
 public:
  /// Nothing where another process has it.
  /// @param fd    the file, open: a lock of flock lasts as long as it stays so
  /// @param path  its name
  /// @param why   who has it, or what is in the way
  static std::optional<OutputLock> take(int fd, const std::string& path, std::string& why);

  OutputLock(OutputLock&&) noexcept;
  OutputLock& operator=(OutputLock&&) noexcept;
  ~OutputLock();

  /// The lock is a file beside the output.
  bool is_file() const { return file_ != nullptr; }

 private:
  class LockFile;
  explicit OutputLock(std::unique_ptr<LockFile> file);

  std::unique_ptr<LockFile> file_;
};

}  // namespace flexgen
