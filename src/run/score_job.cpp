#include "run/score_job.hpp"

#include <memory>

#include "job/progress.hpp"
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
  std::unique_ptr<Progress> progress;
  const std::uint64_t earlier_tokens = book ? book->totals().tokens : 0;
  if (book) {
    input.shape = book->shape();
    input.rows = book;
    input.on_start = [&](const Policy& policy) {
      book->set_dtype(policy.dtype);
      book->start();
      progress = Progress::to_stderr(book->num_rows(), book->num_to_score(), request.files.quiet);
      for (std::size_t i = 0; i < book->num_written(); ++i) progress->add_row(i < book->num_failed());
    };
    input.callbacks.on_scores = [&](RowId id, const TokenScores& tokens) {
      progress->add_tokens(book->add_scores(id, tokens.scores));
    };
    input.callbacks.on_finished = [&](RowId id, FinishReason reason) {
      const bool has_failed = reason == FinishReason::not_a_number;
      if (has_failed ? book->fail(id) : book->finish(id)) progress->add_row(has_failed);
    };
    input.callbacks.on_sweep = [&] {
      book->flush();
      return !stop_requested();
    };
    input.count_job = [&]() -> JobReport {
      return {book->num_rows(),
              book->num_failed(),
              book->num_windows(),
              book->num_window_tokens(),
              0,
              book->totals().tokens - earlier_tokens};
    };
  }
  Report report = run_job(session, request, input);
  if (book) {
    progress->finish();
    report.score = book->totals();
  }
  return report;
}

}  // namespace flexgen
