// The output of a job: its files, the journal beside them, and which row's line goes where and when.
//
// A line goes to its file at once where that is plain and the row's turn has come. Otherwise it waits in the journal:
// for rows before it (RowOrder::as_read), or for others with which it is packed. Memory holds where it waits.
//
// Owns all of these. Not thread-safe: ResultWriter locks. Only next_batch's text is packed without the lock.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "job/output/earlier_run.hpp"
#include "job/output/journal.hpp"
#include "job/output/output_file.hpp"

namespace flexgen {

enum class ExistingFile : std::uint8_t { refuse, overwrite };
enum class RowOrder : std::uint8_t { as_finished, as_read };
/// When what is written is brought to the disk: with each row, once a second, or when the job ends.
enum class SyncRule : std::uint8_t { rows, seconds, end };

/// When what is written leaves the process: with each row, or when flush() is called.
enum class FlushRule : std::uint8_t { each_row, when_told };

struct OutputRequest {
  std::string path = {};        // "-": standard output
  std::string error_path = {};  // of rows that fail; empty: they stand among the others
  ExistingFile existing = ExistingFile::refuse;
  RowOrder order = RowOrder::as_finished;
  SyncRule sync = SyncRule::seconds;
  /// None: the job cannot be gone on with, and has no journal.
  std::optional<JobIdentity> identity = {};
  FlushRule flush = FlushRule::each_row;
  bool restart = false;  // what an earlier run of the job has done does not count
};

/// A row's result, one line without its newline.
struct ResultLine {
  std::uint64_t ordinal = 0;
  std::string_view json;
  RowOutcome outcome = {};
};

/// Where the journal of an output lies.
std::string journal_path(const std::string& output);

class OutputStore {
 public:
  /// Lines that are packed and written together.
  struct Batch {
    std::size_t file = 0;
    std::vector<std::uint64_t> ordinals;
    std::string text;
  };

  /// Takes the files and looks at what an earlier run has left; changes nothing. Throws UserError (file): a file cannot
  /// be taken, holds what is not to be overwritten, or belongs to a job that differs.
  explicit OutputStore(OutputRequest request);

  std::int64_t created() const { return state_.head.created; }
  /// Rows that are done, those of earlier runs included.
  const RowTotals& totals() const { return state_.totals; }
  /// Rows that the end of the process does not cost.
  std::uint64_t num_safe_rows() const { return num_safe_rows_; }
  bool is_complete() const { return state_.is_complete; }
  /// A later run can go on with the job.
  bool has_journal() const { return journal_ && !journal_->path().empty(); }
  const OutputRequest& request() const { return request_; }
  const std::vector<OutputFile>& files() const { return files_; }

  /// Something else that decides what stands in the output, known now. Throws UserError (file) where the earlier run
  /// had it otherwise. Before begin.
  void require(const std::string& name, const std::string& value);
  /// Once for each row, in the order of the input: whether it is still to run.
  bool admit(std::uint64_t ordinal);

  // All that follow throw OutputFault.

  /// What an earlier run has left over goes, the journal is there. Again: does nothing.
  void begin();
  bool has_begun() const { return has_begun_; }
  void put(const ResultLine& line);
  /// What was put is out of the process.
  void flush();
  /// Lines that are to be packed now. Nothing where there are too few, and none of them old, unless `all` are wanted.
  enum class Wanted : std::uint8_t { due, all };
  std::optional<Batch> next_batch(Wanted wanted);
  void write_packed(const Batch& batch, std::string_view packed);
  /// Ends of the files, and the journal's note that they are on the disk.
  std::array<std::uint64_t, max_output_files> ends() const;
  void note_synced(const std::array<std::uint64_t, max_output_files>& ends_bytes);
  /// Everything written is on the disk when this returns.
  void synchronise();
  /// The journal anew, where it has grown large.
  void shorten_journal();
  int journal_fd() const { return journal_ && !journal_->path().empty() ? journal_->fd() : -1; }
  /// All rows are done.
  void complete();
  void close();

 private:
  struct Waiting {
    std::deque<std::uint64_t> ordinals;
    std::size_t size_bytes = 0;
    std::chrono::steady_clock::time_point since;  // of the first
  };

  void open_files();
  bool use_earlier_run();
  bool is_without_results(const EarlierRun& run) const;
  bool is_whole(const EarlierRun& run) const;
  void refuse_other_job(const JournalState& earlier) const;
  void refuse_filled_files() const;
  void begin_files();
  void place(std::size_t file, const ResultLine& line);
  void hold(std::size_t file, const ResultLine& line);
  void release(std::uint64_t ordinal);
  void release_in_turn();
  void queue(std::uint64_t ordinal);
  bool is_ordered() const { return request_.order == RowOrder::as_read; }

  OutputRequest request_;
  std::vector<OutputFile> files_;
  std::optional<Journal> journal_;  // none: lines never wait, and nothing can be gone on with
  JournalState state_;
  bool goes_on_ = false;  // from an earlier run
  bool has_begun_ = false;
  std::deque<std::uint64_t> order_;  // rows that were read and have not gone to their file, where order matters
  std::array<Waiting, max_output_files> waiting_;  // to be packed
  std::uint64_t journal_limit_bytes_ = 0;
  std::uint64_t num_safe_rows_ = 0;
};

}  // namespace flexgen
