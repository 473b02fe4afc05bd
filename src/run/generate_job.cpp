#include "run/generate_job.hpp"

#include <optional>

#include "job/live_counts.hpp"
#include "run/input_totals.hpp"
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
  std::optional<InputTotals> totals;
  LiveCounts counts;
  input.counts = &counts;
  if (book) {
    input.rows = book;
    input.on_start = [&](const Policy& policy) {
      if (!totals) {  // of the first pass
        book->set_dtype(policy.dtype);
        const RowTotals& earlier = book->earlier();
        const std::uint64_t num_failed = book->counts().failed_rows;
        counts.add_earlier_rows(earlier.rows - earlier.failed_rows + num_failed, num_failed);
        totals.emplace(*book, book->max_new_tokens(), counts);
      }
      book->start([&] { counts.add_row(true); });
    };
    input.callbacks.on_token = [&](RowId id, std::int32_t token) {
      counts.add_tokens(1);
      return book->add_token(id, token);
    };
    input.callbacks.on_scores = [&](RowId id, const TokenScores& tokens) { book->add_scores(id, tokens); };
    input.callbacks.on_finished = [&](RowId id, FinishReason reason) {
      if (book->finish(id, reason)) counts.add_row(reason == FinishReason::not_a_number);
      totals->update(*book);
    };
    input.callbacks.on_sweep = [&] {
      book->flush();
      return !stop_requested();
    };
    input.count_job = [&] { return book->counts(); };
  }
  Report report = run_job(session, request, input);
  if (book) report.rows = book->tally().report();
  return report;
}

}  // namespace flexgen
