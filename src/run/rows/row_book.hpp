// The rows of a generate job on rank 0: from input lines to sequences of ids, from tokens back to result lines.
//
// Rows are read ahead in a window: what it holds is known before the job is planned, the others are read by a thread of
// the book's while the job runs. Those of them that the plan has no room for wait for the next pass (job_rows). Bad
// rows get their error line at once and never reach the engine. But for that thread single-threaded. What is kept of a
// row ends with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>

#include "job/output/result_writer.hpp"
#include "job/report.hpp"
#include "job/request_reader.hpp"
#include "job/result.hpp"
#include "job/row_tally.hpp"
#include "run/rows/error_limit.hpp"
#include "run/rows/job_rows.hpp"
#include "run/rows/open_row.hpp"
#include "run/rows/planned_rows.hpp"
#include "run/rows/retry_rule.hpp"
#include "run/rows/row_accounts.hpp"
#include "run/rows/rows_ahead.hpp"
#include "spec/model_spec.hpp"
#include "spec/policy.hpp"
#include "text/stop_matcher.hpp"
#include "text/tokenizer.hpp"

namespace flexgen {

/// What a job asks of its rows as a whole.
struct BookRules {
  PromptCut cut = PromptCut::none;
  RetryRule retry = {};
  ErrorLimit errors = {};
  WindowLimits window = {};
};

class RowBook final : public JobRows {
 public:
  RowBook(const Tokenizer& tokenizer, const ModelSpec& model, ResultWriter& writer, ResultFormat format,
          BookRules rules = {});

  /// Reads the rows that the window holds; errors go to the writer as they are found, and what an earlier run has done
  /// is passed over. Throws what reading throws where there are none before it, and UserError (rows_failed) where too
  /// many have failed.
  /// @param reader  must outlive the book, unless it has_read_all
  void read(RequestReader& reader);
  bool has_read_all() const { return ahead_.has_ended(); }

  /// What the engine is to run next: answers that are asked for again, then the sequences of the rows, in their order.
  std::optional<RowRequest> next_row() override;
  std::optional<std::int64_t> num_left() const override;

  /// Of the rows that wait, where others follow with room for those: one as long as the model takes it, and what others
  /// have asked for.
  JobShape shape() const override { return planned_.shape(); }
  /// First without room for others, then by fewer rows. One that fits alone in no plan fails, and those that need as
  /// much; none does in the first pass of a job that is begun. Throws UserError (rows_failed) where too many have
  /// failed.
  bool plan_by_less(const std::string& misfit) override;
  bool begin_pass() override;
  /// A pass runs: lines go to the writer's file, and rows behind the window are read, from now on.
  /// @param on_row_error  told of every row behind the window that cannot run
  void start(std::function<void()> on_row_error = {});
  /// Lines of rows that are finished, and of those that cannot run, leave the process. Throws UserError (rows_failed)
  /// where too many have failed.
  void flush();
  /// The data type of the run: what is advised where numbers fail.
  void set_dtype(DType dtype) {
    dtype_ = dtype;
    writer_.require(dtype_option, std::string(dtype_name(dtype)));
  }
  /// So far: rows that earlier runs have done, those of the window, and those behind it that the engine has asked for;
  /// bad rows and rows without numbers are failed ones. Tokens are this run's.
  JobReport counts() const {
    JobReport counts = counted_.job;
    counts.failed_rows = accounts_.num_failed();
    return counts;
  }
  /// What earlier runs have done.
  const RowTotals& earlier() const { return accounts_.earlier(); }
  /// Errors by their code, lengths of the sequences that have ended.
  const RowTally& tally() const { return accounts_.tally(); }
  std::size_t num_cut() const { return counted_.num_cut; }  // rows of which a prompt was too long, and was cut
  std::uint64_t max_new_tokens() const { return counted_.max_new_tokens; }  // of the rows so far, at most
  /// Rows of the job, once all are read.
  std::optional<std::size_t> num_rows() const { return ahead_.num_in_all(); }
  /// Rows so far, and the share of the input's bytes that held them; none where that is not known, or all are read.
  std::uint64_t num_read() const { return ahead_.num_read(); }
  std::optional<double> share_read() const { return ahead_.share_read(); }
  /// Throws the UserError by which the input has broken off, where it has.
  void require_whole_input() const { ahead_.require_whole(); }
  /// All of it has been read.
  bool is_input_whole() const { return ahead_.is_whole(); }

  /// From the engine, of sequences that it has pulled. A row's line is written when its last sequence is finished.
  void add_scores(RowId id, const TokenScores& tokens);
  bool add_token(RowId id, std::int32_t token);
  /// True when that finished a row of the input. A sequence without numbers makes its whole row an error, at once; an
  /// answer that does not match may be asked for again.
  bool finish(RowId id, FinishReason reason);

 private:
  using SharedRow = std::shared_ptr<OpenRow>;
  using Ahead = RowsAhead<OpenRow>;
  /// Of what next_row gives.
  struct Next {
    SharedRow row;                                        // whose sequences come next
    std::size_t sequence = 0;                             // of it
    std::deque<std::pair<SharedRow, std::size_t>> again;  // sequences that run anew
  };
  struct Counted {
    JobReport job;  // but for failed_rows
    std::size_t num_cut = 0;
    std::uint64_t max_new_tokens = 0;
  };
  /// Once is enough.
  struct Warned {
    bool of_numbers = false;  // that were none
    bool of_pattern = false;  // that went astray
  };
  struct OpenSequence {
    SharedRow row;
    std::size_t number = 0;  // in OpenRow::sequences
    std::unique_ptr<StreamingDecoder> decoder;
    std::unique_ptr<StopMatcher> matcher;

    OpenRow::Sequence& operator*() const { return row->sequences[number]; }
  };

  Ahead::Opened open(ParsedRow row) const;
  /// As it is read on the driver's thread.
  void look_at(const Ahead::Opened& opened);
  enum class Room : std::uint8_t { known, others };
  void plan(std::size_t num_rows, Room room);
  void refuse_first(const std::string& misfit);
  void count(OpenRow& row);
  void add_unread(const RowError& error);
  bool take_row();
  RowRequest run(SharedRow row, std::size_t sequence);
  bool is_end(const OpenRow& row, std::int32_t token) const;
  bool wants_another(const OpenRow& row, OpenRow::Sequence& sequence);
  void fail_numbers(OpenRow& row, const OpenRow::Sequence& sequence);

  const Tokenizer& tokenizer_;
  const ModelSpec& model_;
  ResultWriter& writer_;
  ResultFormat format_;
  BookRules rules_;
  DType dtype_ = DType::float32;
  Warned has_warned_;
  PlannedRows planned_;
  std::int32_t pass_ = 0;
  RowAccounts accounts_;
  Counted counted_;
  Next next_;
  std::unordered_map<std::int64_t, OpenSequence> sequences_;  // that the engine has, by RowId
  std::int64_t num_pulled_ = 0;
  Ahead ahead_;  // last: its thread ends first
};

}  // namespace flexgen
