// The journal of a job beside its output: what is done, so that a later run goes on where this one ends.
//
// It grows at its end, a record at a time, and is written anew, under another name that then takes its place, where a
// run begins, when it has grown large, and when the job is complete. Its text: job/output/journal_record.hpp.
//
// Owns its file. Not thread-safe, but for fd(). All but fd and size throw OutputFault where a call fails.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>

#include "job/file_descriptor.hpp"
#include "job/output/journal_record.hpp"

namespace flexgen {

/// A line that waits in the journal.
struct HeldLine {
  std::size_t file = 0;
  std::uint64_t offset_bytes = 0;  // in the journal
  std::size_t size_bytes = 0;
};

/// What a journal says, and what it would be written anew from.
struct JournalState {
  HeadRecord head;
  DoneRows done;  // their lines stand in a file, or are held
  RowTotals totals;
  std::array<FilePrefix, max_output_files> files;
  std::map<std::uint64_t, HeldLine> held;  // by ordinal
  bool is_complete = false;
};

class Journal {
 public:
  /// Opens what is there; makes nothing.
  /// @param path  empty: a file without a name, which holds lines while they wait and ends with the process
  explicit Journal(std::string path);

  const std::string& path() const { return path_; }
  bool is_there() const { return file_.is_open(); }
  /// All of it.
  std::string text() const;

  /// Writes it anew, on the disk when this returns; lines that are held have moved then.
  void replace(JournalState& state);

  /// To be written by flush. Held lines end one byte before size_bytes() then.
  void append(const JournalRecord& record) { append_record(record, pending_); }
  /// One write(2).
  void flush();
  /// Flushes where the line is not in the file yet.
  std::string read(const HeldLine& line);

  std::uint64_t size_bytes() const { return written_bytes_ + pending_.size(); }
  int fd() const { return file_.get(); }

 private:
  [[noreturn]] void fail(int error_number) const;

  std::string path_;
  FileDescriptor file_;
  std::uint64_t written_bytes_ = 0;
  std::string pending_;
};

}  // namespace flexgen
