// The texts of a job that scores, on rank 0: from input lines to windows of ids, from scores back to result lines.
//
// Single-threaded. Bad rows get their error line from the start and never reach the engine. A line is written when the
// last window of the row's last text is finished.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "batch/row_source.hpp"
#include "job/output/result_writer.hpp"
#include "job/report.hpp"
#include "job/request.hpp"
#include "job/result.hpp"
#include "run/rows/score_windows.hpp"
#include "spec/model_spec.hpp"
#include "spec/policy.hpp"
#include "text/tokenizer.hpp"

namespace flexgen {

struct ScoreRules {
  std::int32_t window = 0;      // tokens, 2 .. the model's positions
  std::int32_t stride = 0;      // 1 .. window - 1
  std::int64_t max_tokens = 0;  // only the first so many predictions of a text; 0: all
  bool return_token_ids = false;
};

class ScoreBook final : public RowSource {
 public:
  /// @param writer  null: nobody wants result lines
  ScoreBook(const Tokenizer& tokenizer, const ModelSpec& model, ResultWriter* writer, ScoreRules rules)
      : tokenizer_(tokenizer), model_(model), writer_(writer), rules_(rules) {
    if (writer_) count_earlier(writer_->totals());
  }

  /// Reads all rows; errors go to the writer as they are found. What an earlier run has done is passed over.
  void read(RequestReader& reader);
  /// A text that is a row by itself. Throws UserError (rows_failed).
  void add_text(const std::string& id, const std::string& text);

  /// What the engine is to run next: a window, in the order of the texts, cut out of its text's ids.
  std::optional<RowRequest> next_row() override;
  std::optional<std::int64_t> num_left() const override { return std::ssize(windows_) - num_pulled_; }

  const JobShape& shape() const { return shape_; }

  /// The job runs: lines go to the writer's file from now on.
  void start() {
    if (writer_) writer_->start();
  }
  /// Lines of rows that are finished leave the process.
  void flush() {
    if (writer_) writer_->flush();
  }
  /// The data type of the run: what is advised where numbers fail.
  void set_dtype(DType dtype) {
    dtype_ = dtype;
    if (writer_) writer_->require(dtype_option, std::string(dtype_name(dtype)));
  }

  /// From the engine: of a window's tokens but its first. Returns how many of them count.
  std::size_t add_scores(RowId id, std::span<const float> scores);
  /// True when that finished a row of the input.
  bool finish(RowId id);
  /// A window without numbers makes its whole row an error, at once. True when that finished a row of the input.
  bool fail(RowId id);

  std::size_t num_rows() const { return num_rows_; }
  std::size_t num_failed() const { return num_failed_; }    // in earlier runs, too
  std::size_t num_written() const { return num_written_; }  // rows that are done, failed ones included
  std::size_t num_windows() const { return windows_.size(); }
  std::uint64_t num_window_tokens() const { return num_window_tokens_; }  // as read by the model, overlaps included
  std::uint64_t num_to_score() const { return num_to_score_; }
  /// Of the rows that are done, in earlier runs, too.
  const ScoreReport& totals() const { return totals_; }

 private:
  struct OpenRow {
    ScoreResult result;
    std::size_t num_open = 0;  // windows
    bool has_failed = false;   // its error is written: the other windows come to nothing
  };
  struct Window {
    std::shared_ptr<OpenRow> row;
    std::size_t text = 0;  // of the row
    ScoreWindow place;
    std::int64_t num_scored = 0;  // of its tokens behind the first
  };

  void count_earlier(const RowTotals& earlier);
  bool admit(const RowIdentity& row);
  void add_request(const Request& request);
  void add_error(const RowError& error);
  void write_error(const RowError& error);
  void add_row(const RowIdentity& identity, bool prompt_is_list, std::vector<std::vector<std::int32_t>> texts);
  void add_windows(const std::shared_ptr<OpenRow>& row, std::size_t text);
  void write(const OpenRow& row);

  const Tokenizer& tokenizer_;
  const ModelSpec& model_;
  ResultWriter* writer_;
  ScoreRules rules_;
  DType dtype_ = DType::float32;
  bool has_warned_ = false;      // of a row without numbers
  std::vector<Window> windows_;  // by RowId
  std::int64_t num_pulled_ = 0;  // of them, the first
  JobShape shape_{0, 0, 0, 0, true};
  ScoreReport totals_;
  std::size_t num_rows_ = 0;
  std::size_t num_failed_ = 0;
  std::size_t num_written_ = 0;
  std::uint64_t num_window_tokens_ = 0;
  std::uint64_t num_to_score_ = 0;
};

}  // namespace flexgen
