// flexgen-dist score: log-probabilities of given texts, and their perplexity.
#include <fmt/core.h>

#include <filesystem>

#include "app/commands.hpp"
#include "app/job_output.hpp"
#include "base/error.hpp"
#include "base/log.hpp"
#include "run/model/compressed_model.hpp"
#include "run/model/model_folder.hpp"
#include "run/model/model_text.hpp"
#include "run/quality_check.hpp"
#include "run/run_job.hpp"
#include "run/score_job.hpp"

namespace flexgen {
namespace {

// What rank 0 alone has: tokenizer, texts in, rows out.
struct ScoreFiles {
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ResultWriter> writer;
  std::unique_ptr<RequestReader> reader;  // null: a plain text
  std::unique_ptr<ScoreBook> book;
};

ScoreRules score_rules(const ScoreOptions& options, const RowOptions& rows, const ModelSpec& model) {
  ScoreRules rules;
  rules.window = options.window > 0 ? options.window : model.max_positions;
  if (rules.window < 2 || rules.window > model.max_positions)
    throw UserError(ExitCode::usage, fmt::format("windows of {} tokens cannot be scored", rules.window),
                    fmt::format("a prediction needs 2 tokens, the model has {} positions", model.max_positions),
                    "Change --window");
  rules.stride = options.stride > 0 ? options.stride : rules.window - 1;
  check_stride(rules.stride, rules.window);
  rules.max_tokens = options.max_tokens;
  rules.return_token_ids = rows.return_token_ids;
  rules.errors = rows.errors;
  return rules;
}

ScoreFiles open_score_files(const Options& options, const std::filesystem::path& directory, const ModelSpec& model) {
  const ScoreRules rules = score_rules(options.score, options.rows, model);
  const bool is_text = !options.score.text.empty();
  ScoreFiles files;
  files.tokenizer = std::make_unique<Tokenizer>(open_tokenizer(directory, model));
  if (is_text && files.tokenizer->is_none())
    throw UserError(ExitCode::model, "cannot score a text", "the model's folder has no tokenizer files",
                    "Put tokenizer.json, or vocab.json and merges.txt, of the model into its folder");
  std::string text;
  if (is_text) text = read_text(options.score.text);
  else files.reader = std::make_unique<RequestReader>(options.rows.inputs, options.rows.defaults(0, true));
  if (options.score.collapse_whitespace) text = collapse_whitespace(text);
  if (!options.files.output.empty()) {
    files.writer = open_output(options, directory, model);
    if (files.writer->is_complete()) return files;
  }
  files.book = std::make_unique<ScoreBook>(*files.tokenizer, model, files.writer.get(), rules);
  if (is_text) {
    files.book->add_text(std::filesystem::path(options.score.text).filename().string(), text);
    return files;
  }
  files.book->read(*files.reader);
  return files;
}

void describe_rows(const ScoreFiles& files) {
  const ScoreBook& book = *files.book;
  if (files.reader)
    if (const std::string unread = files.reader->describe_unread_fields(); !unread.empty()) log::info(unread);
  log::info(fmt::format("{} rows, {} of them bad; {} tokens to score in {} windows{}", book.counts().rows,
                        book.num_failed(), book.counts().to_score, book.counts().windows,
                        book.has_read_all() ? "" : "; others follow"));
}

// Rank 0's.
int end_job(const ScoreFiles& files, const Report& report, const Options& options, bool were_all_described) {
  const ScoreBook& book = *files.book;
  if (files.writer)
    if (const std::optional<int> status = finish_output(*files.writer, book.num_rows(), book.is_input_whole()))
      return *status;
  if (!were_all_described) describe_rows(files);
  const int status =
      conclude(report, options.files, options.score.text.empty() ? SummaryRole::remark : SummaryRole::result);
  book.require_whole_input();
  return status;
}

}  // namespace

int run_score(MpiSession& session, const Options& options) {
  Communicator& ranks = session.communicator();
  const ModelFolder folder = open_model(options.model, ranks, ModelUse::weights);
  std::filesystem::path directory = folder.directory;
  ModelSpec model = folder.spec;
  const bool has_texts = !options.rows.inputs.paths.empty() || !options.score.text.empty();
  ScoreFiles files;  // first: what is wrong with them must not come to light after a model has been compressed
  ranks.agree_on_error([&] {
    if (has_texts && ranks.rank() == 0) files = open_score_files(options, directory, model);
  });
  if (const std::optional<int> status = conclude_if_complete(files.writer.get(), options.files, ranks)) return *status;
  if (const std::string& text = options.rows.quality_check; !text.empty())
    check_quality(session, options, text, directory, model);
  if (!has_texts) return static_cast<int>(ExitCode::ok);
  directory = save_compressed(options.model, options.policy.weight_format, directory, model, ranks);
  const bool are_all_known = !files.book || files.book->has_read_all();
  if (files.book) describe_rows(files);

  const Report report = run_score_job(session, options, directory, model, files.book.get());
  int status = static_cast<int>(ExitCode::ok);
  ranks.agree_on_error([&] {
    if (files.book) status = end_job(files, report, options, are_all_known);
  });
  return status;
}

}  // namespace flexgen
