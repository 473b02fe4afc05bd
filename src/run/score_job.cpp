#include "run/score_job.hpp"

#include <optional>

#include "job/live_counts.hpp"
#include "run/input_totals.hpp"
#include "run/interrupt.hpp"
#include "run/model/compressed_model.hpp"
#include "run/run_job.hpp"

namespace flexgen {

Report run_score_job(MpiSession& session, const JobRequest& request, const std::filesystem::path& directory,
                     const ModelSpec& model, ScoreBook* book) {
  JobInput input;
  input.command = "score";
  input.model = model;
  input.stops_early = true;
  input.make_source = [&] { return open_weights(directory, model); };
  const std::uint64_t earlier_tokens = book ? book->totals().tokens : 0;
  std::optional<InputTotals> totals;
  LiveCounts counts;
  input.counts = &counts;
  if (book) {
    input.rows = book;
    input.on_start = [&](const Policy& policy) {
      book->set_dtype(policy.dtype);
      const RowTotals& earlier = book->earlier();
      counts.add_earlier_rows(earlier.rows - earlier.failed_rows + book->num_failed(), book->num_failed());
      totals.emplace(*book, book->counts().to_score, counts);
      book->start([&](bool has_failed) { counts.add_row(has_failed); });
    };
    input.callbacks.on_scores = [&](RowId id, const TokenScores& tokens) {
      counts.add_tokens(book->add_scores(id, tokens.scores));
    };
    input.callbacks.on_finished = [&](RowId id, FinishReason reason) {
      const bool has_failed = reason == FinishReason::not_a_number;
      if (has_failed ? book->fail(id) : book->finish(id)) counts.add_row(has_failed);
      totals->update(*book);
    };
    input.callbacks.on_sweep = [&] {
      book->flush();
      return !stop_requested();
    };
    input.count_job = [&]() -> JobReport {
      const ScoreBook::Counts& read = book->counts();
      return {
          read.rows, book->num_failed(), read.windows, read.window_tokens, 0, book->totals().tokens - earlier_tokens};
    };
  }
  Report report = run_job(session, request, input);
  if (book) {
    report.score = book->totals();
    report.rows = book->tally().report();
  }
  return report;
}

}  // namespace flexgen
