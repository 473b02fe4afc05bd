#include "run/score_job.hpp"

#include "job/live_counts.hpp"
#include "run/model/compressed_model.hpp"
#include "run/run_job.hpp"

namespace flexgen {

Report run_score_job(MpiSession& session, const JobRequest& request, const std::filesystem::path& directory,
                     const ModelSpec& model, ScoreBook* book) {
  JobInput input;
  input.command = "score";
  input.model = model;
  input.make_source = [&] { return open_weights(directory, model); };
  LiveCounts counts;
  input.counts = &counts;
  if (book) {
    input.shape = book->shape();
    input.rows = book;
    input.on_start = [&](const Policy& policy) {
      book->set_dtype(policy.dtype);
      book->start();
      counts.set_total_rows(book->num_rows());
      counts.set_total_tokens(book->num_to_score());
      counts.add_earlier_rows(book->num_written(), book->num_failed());
    };
    input.callbacks.on_scores = [&](RowId id, const TokenScores& tokens) {
      counts.add_tokens(book->add_scores(id, tokens.scores));
    };
    input.callbacks.on_finished = [&](RowId id, FinishReason reason) {
      const bool has_failed = reason == FinishReason::not_a_number;
      if (has_failed ? book->fail(id) : book->finish(id)) counts.add_row(has_failed);
    };
    input.count_job = [&]() -> JobReport {
      return {book->num_rows(),     book->num_failed(), book->num_windows(), book->num_window_tokens(), 0,
              book->totals().tokens};
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
