#include "run/generate_job.hpp"

#include <memory>

#include "job/progress.hpp"
#include "run/interrupt.hpp"
#include "run/model/compressed_model.hpp"
#include "run/run_job.hpp"

namespace flexgen {

Report run_generate_job(MpiSession& session, const JobRequest& request, const std::filesystem::path& directory,
                        const ModelSpec& model, RowBook* book) {
  JobInput input;
  input.command = "generate";
  input.model = model;
  input.stops_early = true;
  input.make_source = [&] { return open_weights(directory, model); };
  std::unique_ptr<Progress> progress;
  if (book) {
    input.shape = book->shape();
    input.rows = book;
    input.on_start = [&](const Policy& policy) {
      book->set_dtype(policy.dtype);
      book->start();
      progress = Progress::to_stderr(book->counts().rows, book->max_new_tokens(), request.files.quiet);
      for (std::size_t i = 0; i < book->counts().failed_rows; ++i) progress->add_row(true);
      const RowTotals& earlier = book->earlier();
      for (std::size_t i = earlier.failed_rows; i < earlier.rows; ++i) progress->add_row(false);
    };
    input.callbacks.on_token = [&](RowId id, std::int32_t token) {
      progress->add_tokens(1);
      return book->add_token(id, token);
    };
    input.callbacks.on_scores = [&](RowId id, const TokenScores& tokens) { book->add_scores(id, tokens); };
    input.callbacks.on_finished = [&](RowId id, FinishReason reason) {
      if (book->finish(id, reason)) progress->add_row(reason == FinishReason::not_a_number);
    };
    input.callbacks.on_sweep = [&] {
      book->flush();
      return !stop_requested();
    };
    input.count_job = [&] { return book->counts(); };
  }
  Report report = run_job(session, request, input);
  if (book) progress->finish();
  return report;
}

}  // namespace flexgen
