#include "run/score_job.hpp"

#include <memory>
#include <optional>

#include "job/progress.hpp"
#include "run/input_totals.hpp"
#include "run/model/compressed_model.hpp"
#include "run/run_job.hpp"

namespace flexgen {

Report run_score_job(MpiSession& session, const JobRequest& request, const std::filesystem::path& directory,
                     const ModelSpec& model, ScoreBook* book) {
  JobInput input;
  input.command = "score";
  input.model = model;
  input.make_source = [&] { return open_weights(directory, model); };
  std::unique_ptr<Progress> progress;
  std::optional<InputTotals> totals;
  if (book) {
    input.shape = book->shape();
    input.rows = book;
    input.on_start = [&](const Policy& policy) {
      book->set_dtype(policy.dtype);
      progress = Progress::to_stderr({}, {}, request.files.quiet);
      totals.emplace(*book, book->counts().to_score, *progress);
      for (std::size_t i = 0; i < book->num_failed(); ++i) progress->add_row(true);
      book->start([&](bool has_failed) { progress->add_row(has_failed); });
    };
    input.callbacks.on_scores = [&](RowId id, const TokenScores& tokens) {
      progress->add_tokens(book->add_scores(id, tokens.scores));
    };
    input.callbacks.on_finished = [&](RowId id, FinishReason reason) {
      const bool has_failed = reason == FinishReason::not_a_number;
      if (has_failed ? book->fail(id) : book->finish(id)) progress->add_row(has_failed);
      totals->update(*book);
    };
    input.count_job = [&]() -> JobReport {
      const ScoreBook::Counts& counts = book->counts();
      return {counts.rows, book->num_failed(), counts.windows, counts.window_tokens, 0, book->totals().tokens};
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
