// The rows of a generate job on rank 0: from input lines to sequences of ids, from tokens back to result lines.
//
// Single-threaded. Bad rows get their error line at once and never reach the engine.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "batch/row_source.hpp"
#include "job/output/result_writer.hpp"
#include "job/report.hpp"
#include "job/request.hpp"
#include "job/result.hpp"
#include "run/rows/open_row.hpp"
#include "spec/model_spec.hpp"
#include "spec/policy.hpp"
#include "text/stop_matcher.hpp"
#include "text/tokenizer.hpp"

namespace flexgen {

class RowBook final : public RowSource {
 public:
  RowBook(const Tokenizer& tokenizer, const ModelSpec& model, ResultWriter& writer, ResultFormat format,
          PromptCut cut = PromptCut::none)
      : tokenizer_(tokenizer),
        model_(model),
        writer_(writer),
        format_(std::move(format)),
        cut_(cut),
        earlier_(writer.totals()) {
    counts_.failed_rows = earlier_.failed_rows;
  }

  /// Reads all rows; errors go to the writer as they are found. What an earlier run has done is passed over.
  void read(RequestReader& reader);

  /// What the engine is to run next: the sequences of the rows, in their order. What is not pulled yet is kept as
  /// ids alone.
  std::optional<RowRequest> next_row() override;
  std::optional<std::int64_t> num_left() const override { return std::ssize(sequences_) - num_pulled_; }

  const JobShape& shape() const { return shape_; }
  /// The job runs: lines go to the writer's file from now on.
  void start() { writer_.start(); }
  /// Lines of rows that are finished leave the process.
  void flush() { writer_.flush(); }
  /// The data type of the run: what is advised where numbers fail.
  void set_dtype(DType dtype) {
    dtype_ = dtype;
    writer_.require(dtype_option, std::string(dtype_name(dtype)));
  }
  /// So far: bad rows and rows without numbers are failed ones, those of earlier runs included; prompts that are to run
  /// are counted as they are read.
  const JobReport& counts() const { return counts_; }
  /// What earlier runs have done.
  const RowTotals& earlier() const { return earlier_; }
  std::size_t num_cut() const { return num_cut_; }  // rows of which a prompt was too long, and was cut
  std::uint64_t max_new_tokens() const { return max_new_tokens_; }

  /// From the engine, of sequences that it has pulled. A row's line is written when its last sequence is finished.
  void add_scores(RowId id, const TokenScores& tokens);
  bool add_token(RowId id, std::int32_t token);
  /// True when that finished a row of the input. A sequence without numbers makes its whole row an error, at once.
  bool finish(RowId id, FinishReason reason);

 private:
  struct OpenSequence {
    std::shared_ptr<OpenRow> row;
    std::size_t number = 0;                     // in OpenRow::sequences
    std::unique_ptr<StreamingDecoder> decoder;  // from next_row on
    std::unique_ptr<StopMatcher> matcher;

    OpenRow::Sequence& operator*() const { return row->sequences[number]; }
  };

  void add_request(Request request);
  void add_row(const std::shared_ptr<OpenRow>& row);
  void add_error(const RowError& error);
  bool is_end(const OpenRow& row, std::int32_t token) const;
  void fail_numbers(OpenRow& row, const OpenRow::Sequence& sequence);

  const Tokenizer& tokenizer_;
  const ModelSpec& model_;
  ResultWriter& writer_;
  ResultFormat format_;
  PromptCut cut_;
  RowTotals earlier_;
  DType dtype_ = DType::float32;
  bool has_warned_ = false;              // of a row without numbers
  std::vector<OpenSequence> sequences_;  // by RowId
  std::int64_t num_pulled_ = 0;          // of them, the first
  JobShape shape_;
  JobReport counts_;
  std::size_t num_cut_ = 0;
  std::uint64_t max_new_tokens_ = 0;
};

}  // namespace flexgen
