#include "run/quality_check.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>

#include "base/error.hpp"
#include "base/log.hpp"
#include "job/file_descriptor.hpp"
#include "run/model/model_text.hpp"
#include "run/plain_request.hpp"
#include "run/score_job.hpp"

namespace flexgen {
namespace {

constexpr std::int32_t max_windows = 8;
constexpr std::int32_t window_tokens = 512;
constexpr double worrying_percent = 3;

ScoreReport score(MpiSession& session, const JobRequest& request, const std::string& text_file,
                  const std::filesystem::path& directory, const ModelSpec& model) {
  Communicator& ranks = session.communicator();
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ScoreBook> book;
  ranks.agree_on_error([&] {
    if (ranks.rank() != 0) return;
    tokenizer = std::make_unique<Tokenizer>(open_tokenizer(directory, model));
    const std::int32_t window = std::min(window_tokens, model.max_positions);
    const ScoreRules rules{window, window - 1, std::int64_t{max_windows} * (window - 1), false};
    book = std::make_unique<ScoreBook>(*tokenizer, model, nullptr, rules);
    book->add_text("quality", read_text(text_file));
    if (book->counts().to_score == 0)
      throw UserError(ExitCode::file, fmt::format("cannot judge quality by '{}'", text_file),
                      "it has fewer than two tokens", "Give a text like those that the job will read");
  });
  const Report report = run_score_job(session, request, directory, model, book.get());
  ranks.agree_on_error([&] {
    if (book && book->num_failed() > 0)
      throw UserError(ExitCode::model, fmt::format("cannot judge quality by '{}'", text_file),
                      "the model gave scores that are not numbers", "See the warning above");
  });
  return report.score.value_or(ScoreReport{});
}

}  // namespace

void check_quality(MpiSession& session, const JobRequest& request, const std::string& text_file,
                   const std::filesystem::path& directory, const ModelSpec& model) {
  Communicator& ranks = session.communicator();
  const bool is_first = ranks.rank() == 0;
  ranks.agree_on_error([&] {
    if (!model.compression.is_none())
      throw UserError(ExitCode::usage, "--quality-check cannot judge this model",
                      "its weights are compressed already: there is nothing to compare them with",
                      "Check the uncompressed model, with --compress-weight");
  });
  const JobRequest compressed = plain_request(request);
  const JobRequest uncompressed = uncompressed_request(request);
  if (is_first) log::info(fmt::format("quality check on '{}': uncompressed", text_file));
  const ScoreReport without = score(session, uncompressed, text_file, directory, model);
  if (is_first) log::info("quality check: compressed");
  const ScoreReport with = score(session, compressed, text_file, directory, model);
  if (!is_first) return;
  const double change = 100 * (with.perplexity() / without.perplexity() - 1);
  write_fully(STDERR_FILENO,
              fmt::format("{:<12}perplexity {:.4f} uncompressed, {:.4f} compressed ({:+.2f} %) over {} tokens\n",
                          "quality", without.perplexity(), with.perplexity(), change, with.tokens));
  if (!(change <= worrying_percent))
    log::warn(
        fmt::format("compression raises the perplexity of this text by more than {:g} %: try 8 bits "
                    "(--weight-bits 8, --cache-bits 8) or compress the weights or the cache alone",
                    worrying_percent));
}

}  // namespace flexgen
