// The texts of a job that scores, on rank 0: from input lines to windows of ids, from scores back to result lines.
//
// Rows are read ahead in a window, as those of a row book (run/rows/row_book.hpp). Bad rows get their error line from
// the start and never reach the engine. A line is written when the last window of the row's last text is finished. But
// for the thread that reads single-threaded.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "job/output/result_writer.hpp"
#include "job/report.hpp"
#include "job/request_reader.hpp"
#include "job/result.hpp"
#include "job/row_tally.hpp"
#include "run/rows/error_limit.hpp"
#include "run/rows/job_rows.hpp"
#include "run/rows/row_accounts.hpp"
#include "run/rows/rows_ahead.hpp"
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
  ErrorLimit errors = {};
  WindowLimits ahead = {};  // rows that are read ahead
};

class ScoreBook final : public JobRows {
 public:
  /// @param writer  null: nobody wants result lines
  ScoreBook(const Tokenizer& tokenizer, const ModelSpec& model, ResultWriter* writer, ScoreRules rules);

  /// As RowBook::read.
  void read(RequestReader& reader);
  bool has_read_all() const { return ahead_.has_ended(); }
  /// A text that is a row by itself. Throws UserError (rows_failed).
  void add_text(const std::string& id, const std::string& text);

  /// What the engine is to run next: a window, in the order of the texts, cut out of its text's ids.
  std::optional<RowRequest> next_row() override;
  std::optional<std::int64_t> num_left() const override;

  /// Of the rows that were read ahead, with a whole window more where others follow.
  JobShape shape() const override { return shape_; }

  /// The job runs: lines go to the writer's file, and further rows are read, from now on.
  /// @param on_row  told of every row that is done without the engine from now on, and whether it has failed
  void start(std::function<void(bool has_failed)> on_row = {});
  /// As RowBook::flush.
  void flush();
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

  /// Of the rows that were read ahead and those that the engine has asked for since; `rows` are those of earlier runs,
  /// too.
  struct Counts {
    std::size_t rows = 0;
    std::size_t windows = 0;
    std::uint64_t window_tokens = 0;  // as read by the model, overlaps included
    std::uint64_t to_score = 0;
  };
  const Counts& counts() const { return counts_; }
  std::size_t num_failed() const { return accounts_.num_failed(); }  // in earlier runs, too
  /// Rows of the job, once all are read.
  std::optional<std::size_t> num_rows() const { return ahead_.num_in_all(); }
  /// Rows so far, and the share of the input's bytes that held them; none where that is not known, or all are read.
  std::uint64_t num_read() const { return ahead_.num_read(); }
  std::optional<double> share_read() const { return ahead_.share_read(); }
  /// As RowBook::require_whole_input.
  void require_whole_input() const { ahead_.require_whole(); }
  bool is_input_whole() const { return ahead_.is_whole(); }
  /// Errors by their code, lengths of the texts that have been scored.
  const RowTally& tally() const { return accounts_.tally(); }
  /// What earlier runs have done.
  const RowTotals& earlier() const { return accounts_.earlier(); }
  /// Of the rows that are done, in earlier runs, too.
  const ScoreReport& totals() const { return totals_; }

 private:
  struct Window {
    std::size_t text = 0;  // of the row
    ScoreWindow place;
    std::int64_t num_scored = 0;  // of its tokens behind the first
  };
  struct OpenRow {
    ScoreResult result;
    std::vector<Window> windows;
    std::size_t num_open = 0;  // windows
    bool is_counted = false;
    bool has_failed = false;  // its error is written: the other windows come to nothing
  };
  using SharedRow = std::shared_ptr<OpenRow>;
  using Ahead = RowsAhead<OpenRow>;
  struct RowWindow {
    SharedRow row;
    std::size_t number = 0;  // in OpenRow::windows

    Window& operator*() const { return row->windows[number]; }
  };

  Ahead::Opened open(ParsedRow row) const;
  Ahead::Opened open_texts(const RowIdentity& identity, bool prompt_is_list,
                           std::vector<std::vector<std::int32_t>> texts) const;
  /// Tokens of a text that are predicted: all but the first, or the first of these (--max-tokens).
  std::int64_t num_predicted(const std::vector<std::int32_t>& ids) const;
  void plan_by(OpenRow& row);
  void count(OpenRow& row);
  void add_unread(const RowError& error);
  bool take_row();
  bool admit(const RowIdentity& row);
  void write(const OpenRow& row);

  const Tokenizer& tokenizer_;
  const ModelSpec& model_;
  ResultWriter* writer_;
  ScoreRules rules_;
  DType dtype_ = DType::float32;
  bool has_warned_ = false;  // of a row without numbers
  std::function<void(bool)> on_row_;
  RowAccounts accounts_;
  JobShape shape_{0, 0, 0, 0, true};
  Counts counts_;
  ScoreReport totals_;
  RowWindow next_;                                       // of next_row; its row may be null
  std::unordered_map<std::int64_t, RowWindow> windows_;  // that the engine has, by RowId
  std::int64_t num_pulled_ = 0;
  Ahead ahead_;  // last: its thread ends first
};

}  // namespace flexgen
