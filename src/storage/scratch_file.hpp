// Nameless files of fixed size in --offload-dir: the home of what the ssd tier holds and the checkpoint does not.
//
// Nothing is left behind after an error, a signal or SIGKILL: the file never has a name (O_TMPFILE), or where the
// file system lacks that, it loses its name, and its private directory goes, as soon as it is open.
// Ownership: move-only; the space is freed when the last descriptor closes. Thread-safety: as FileHandle.
#pragma once

#include <cstdint>
#include <filesystem>
#include <utility>

#include "storage/file_handle.hpp"

namespace flexgen {

/// Where scratch files go unless --offload-dir says otherwise: $TMPDIR, or /tmp. They need no folder of their own
/// there.
std::filesystem::path default_offload_directory();

/// A directory that is there: one that was missing is made, private to this user, and removed at the end if it is
/// empty.
class UsableDirectory {
 public:
  UsableDirectory() = default;
  /// Makes the last folder of `path` alone. Throws UserError (file), naming --offload-dir.
  explicit UsableDirectory(const std::filesystem::path& path);
  ~UsableDirectory() { remove_if_made(); }
  UsableDirectory(UsableDirectory&& other) noexcept : made_(std::exchange(other.made_, {})) {}
  UsableDirectory& operator=(UsableDirectory&& other) noexcept {
    std::swap(made_, other.made_);
    return *this;
  }
  UsableDirectory(const UsableDirectory&) = delete;
  UsableDirectory& operator=(const UsableDirectory&) = delete;

  void remove_if_made() noexcept;

 private:
  std::filesystem::path made_;  // empty: it was there
};

/// A directory `PARENT/flexgen-<pid>-<random>` that only this user may enter; removed, when empty, at the end.
class ScratchDirectory {
 public:
  ScratchDirectory() = default;
  /// Throws UserError (file).
  explicit ScratchDirectory(const std::filesystem::path& parent);
  /// Takes over a directory that is there; `parent` goes after it.
  ScratchDirectory(UsableDirectory parent, std::filesystem::path own)
      : parent_(std::move(parent)), path_(std::move(own)) {}
  ~ScratchDirectory();
  ScratchDirectory(ScratchDirectory&& other) noexcept;
  ScratchDirectory& operator=(ScratchDirectory&& other) noexcept;
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// Removes the directory if it is empty, and the one it stands in if that was made for it and no other rank is in it
  /// just now (the destructor tries that again); true when the first is gone.
  bool remove() noexcept;

 private:
  UsableDirectory parent_;
  std::filesystem::path path_;  // empty: there is none
};

struct ScratchOptions {
  bool nameless = true;  // O_TMPFILE where it is to be had; false: always create and unlink
  bool direct = true;    // direct I/O where it is to be had
};

class ScratchFile {
 public:
  ScratchFile() = default;
  /// Takes `size_bytes` (rounded up to whole blocks) of disk in `offload_dir`. Where that is missing it is made, if its
  /// parent is there, and does not outlive the file.
  /// Throws UserError: does_not_fit with the numbers when the disk or the file size limit is too small; file when
  /// the directory cannot be made or written.
  ScratchFile(const std::filesystem::path& offload_dir, std::uint64_t size_bytes, ScratchOptions options = {});

  const FileHandle& handle() const { return handle_; }
  std::uint64_t size_bytes() const { return handle_.size_bytes(); }

 private:
  int open(const std::filesystem::path& offload_dir, const ScratchOptions& options, bool& direct);

  ScratchDirectory directory_;  // outlives the descriptor: NFS keeps a hidden name until the file is closed
  FileHandle handle_;
};

}  // namespace flexgen
