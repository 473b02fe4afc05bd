// A file that results go to: taken before the job runs, not touched until its first row, and watched while it grows.
//
// Owns its descriptor and its lock. Not thread-safe, but for fd().
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "job/file_descriptor.hpp"
#include "job/output/journal_record.hpp"
#include "job/output/output_lock.hpp"
#include "job/output/packed_output.hpp"

namespace flexgen {

/// Why a file cannot be written any more; becomes the words of a UserError where it is known what was being done.
struct OutputFault {
  std::string why;
  std::string remedy;
  bool rows_are_safe = true;
};

class OutputFile {
 public:
  /// Opens or makes the file, and locks it. Throws UserError (file), naming `option`: it cannot be opened, or another
  /// process writes to it.
  /// @param path  a file in a folder that exists, or "-" for standard output
  OutputFile(std::string path, std::string_view option);
  OutputFile(OutputFile&&) noexcept = default;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();

  const std::string& path() const { return path_; }
  const std::string& display_name() const { return display_name_; }
  /// The file, where it was made here; else empty.
  const std::string& new_file() const { return new_file_; }
  /// A regular file under its name: it can be cut, read again and gone on with.
  bool is_named() const { return is_named_; }
  std::uint64_t bytes_found() const { return bytes_found_; }  // when it was opened
  Packing packing() const { return packing_; }
  int fd() const { return file_.get(); }
  bool is_open() const { return file_.is_open(); }

  /// Cuts a named file to what is to be kept of it, and writes behind that from now on. Throws OutputFault.
  void begin(const FilePrefix& kept);
  /// What has been given to write so far, and the file as begin left it.
  const FilePrefix& prefix() const { return prefix_; }
  /// What it will be with `bytes` more.
  FilePrefix with(std::string_view bytes) const;

  /// To be written by flush.
  /// @param after  with(bytes)
  void write(std::string_view bytes, const FilePrefix& after);
  /// One write(2). Throws OutputFault: the disk is full, the reader of a pipe is gone, or others have changed the file.
  /// What was written by half is taken back where it can be.
  void flush();
  /// Throws OutputFault when the file is not what was written to it.
  void check() const;
  /// Brings it to the disk. Throws OutputFault.
  void synchronise() const;
  /// And gives up the lock. Throws OutputFault.
  void close();

 private:
  void open();
  void take_back(std::size_t num_bytes);

  std::string path_;
  std::string display_name_;  // quoted path or "standard output"
  Packing packing_;
  std::string new_file_;
  FileDescriptor file_;
  std::optional<OutputLock> lock_;
  bool is_named_ = false;
  std::uint64_t bytes_found_ = 0;
  FilePrefix prefix_;
  std::string pending_;  // its last bytes, which are not in the file yet
};

/// fsync(2) but where there is nothing to synchronise. Returns 0 or an errno value.
int synchronise(int fd);
/// The same of the folder that holds `path`: a new name in it.
int synchronise_folder_of(const std::string& path);

}  // namespace flexgen
