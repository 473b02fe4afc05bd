// Writes the results of a job, each as soon as it is finished, and keeps the journal by which it is gone on with.
//
// A row that is finished is not lost by the end of the process, however that comes: its line stands in the file, or
// waits in the journal. What a power cut may cost is said by SyncRule. What is brought to the disk once a second, and
// what is packed, is done by a thread of its own.
//
// Owns the output's files and the journal. Thread-safe.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "job/output/output_store.hpp"
#include "job/request.hpp"

namespace flexgen {

/// By which a row is known from run to run: its place in the input.
inline std::uint64_t ordinal_of(const RowIdentity& row) { return row.ordinal; }

/// As require() names the data type of a run.
constexpr const char* dtype_option = "--dtype";

/// Until start() rows are kept in memory, and what the files held stays: it goes with the first row, or with finish()
/// of a job without rows. A file that this writer made and that holds nothing when the writer goes without finish() is
/// removed again. A file that is deleted, replaced or changed by others in mid-run is an error of the next call.
class ResultWriter {
 public:
  /// Throws UserError (file): the folder is missing, a file cannot be opened, another process writes to it, or it holds
  /// what may not be replaced: others' bytes, or results of a job that differs.
  explicit ResultWriter(OutputRequest request);
  ResultWriter(const ResultWriter&) = delete;
  ResultWriter& operator=(const ResultWriter&) = delete;
  ~ResultWriter();

  /// The job's first start, seconds since 1970.
  std::int64_t created() const { return store_.created(); }
  /// Of rows that are done; at first those of earlier runs.
  RowTotals totals() const;
  /// An earlier run has done all.
  bool is_complete() const { return store_.is_complete(); }
  /// The job can be gone on with.
  bool has_journal() const { return store_.has_journal(); }
  /// The output, where this writer made it; else empty.
  const std::string& new_file() const { return store_.files().front().new_file(); }

  /// Once for each row, in the order of the input: whether it is still to run, or an error of it to be written.
  bool admit(const RowIdentity& row);
  /// What decides the results and was chosen by the run itself (dtype_option, "float32"). Before start(). Throws
  /// UserError (file) where an earlier run has chosen otherwise.
  void require(const std::string& name, const std::string& value);

  /// The job runs: writes what was kept, and every later row at once. Errors as write.
  void start();

  /// Writes one line (no newline in it), or keeps it until start(). Throws UserError (file) when a disk is full, the
  /// reader of a pipe has gone or a file is no longer what was written; it says how many rows are safe, a half-written
  /// row is taken back, and later calls fail at once.
  void write(const RowIdentity& row, std::string_view json_line, const RowOutcome& outcome = {});

  /// What was written is out of the process, in one write(2) for each file (FlushRule). Errors as write.
  void flush();

  /// The job ends before its last row: all that is done is on the disk. Throws UserError (file).
  void pause();
  /// All rows are done: brings everything to the disk and closes the files. Throws UserError (file). Calling it again
  /// does nothing.
  void finish();

 private:
  struct KeptLine {
    std::uint64_t ordinal = 0;
    std::string json;
    RowOutcome outcome;
  };

  std::string cannot_write() const;
  std::string cannot_synchronise() const;
  void begin_locked();
  void start_locked();
  void put_locked(const ResultLine& line);
  void write_batches(OutputStore::Wanted wanted, std::unique_lock<std::mutex>& lock);
  void keep_up(const std::stop_token& stop);
  void synchronise_behind(std::unique_lock<std::mutex>& lock);
  void stop_thread();
  /// Runs `action`; what it throws becomes a UserError that says `what` could not be done.
  void guarded(const std::function<std::string()>& what, const std::function<void()>& action);

  OutputStore store_;
  mutable std::mutex mutex_;
  std::condition_variable_any wake_;
  std::vector<KeptLine> kept_;  // lines that came before start()
  bool is_started_ = false;
  bool is_finished_ = false;
  bool is_unsynced_ = false;  // something was written since the last time
  std::string failure_;       // of the first call that failed, from then on
  std::jthread thread_;       // last: it ends first
};

}  // namespace flexgen
