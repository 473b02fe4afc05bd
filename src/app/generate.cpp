// flexgen-dist generate: rows of prompts in, rows of texts out.
#include <fmt/core.h>

#include <filesystem>

#include "app/commands.hpp"
#include "app/job_output.hpp"
#include "base/error.hpp"
#include "base/log.hpp"
#include "run/generate_job.hpp"
#include "run/model/compressed_model.hpp"
#include "run/model/model_folder.hpp"
#include "run/model/model_text.hpp"
#include "run/quality_check.hpp"
#include "run/rows/row_book.hpp"
#include "run/run_job.hpp"

namespace flexgen {
namespace {

// What rank 0 alone has: tokenizer, rows in, rows out.
struct JobFiles {
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ResultWriter> writer;
  std::unique_ptr<RequestReader> reader;
  std::unique_ptr<RowBook> book;
};

JobFiles open_job_files(const Options& options, const std::filesystem::path& directory, const ModelSpec& model) {
  JobFiles files;
  files.tokenizer = std::make_unique<Tokenizer>(open_tokenizer(directory, model));
  files.reader = std::make_unique<RequestReader>(options.rows.inputs, options.rows.defaults(options.generate.gen_len));
  files.writer = open_output(options, directory, model);
  if (files.writer->is_complete()) return files;
  ResultFormat format{options.rows.return_token_ids, model.name, files.writer->created()};
  if (files.tokenizer->is_none()) {
    format.return_token_ids = true;
    format.has_text = false;
    log::info("the model has no tokenizer files: rows of token ids run, and get token ids and no text");
  }
  const GenerateOptions& generate = options.generate;
  files.book = std::make_unique<RowBook>(*files.tokenizer, model, *files.writer, format,
                                         BookRules{generate.truncate_prompt, generate.retry, options.rows.errors});
  files.book->read(*files.reader);
  return files;
}

void describe_rows(const JobFiles& files, PromptCut cut) {
  const RowBook& book = *files.book;
  if (const std::string unread = files.reader->describe_unread_fields(); !unread.empty()) log::info(unread);
  if (const std::size_t num_cut = book.num_cut(); num_cut > 0)
    log::info(fmt::format("{} row{} had a prompt that is too long for the model: it was cut on the {}", num_cut,
                          num_cut == 1 ? "" : "s", prompt_cut_name(cut)));
  log::info(fmt::format("{} rows, {} of them bad; {} prompt tokens{}", book.counts().rows, book.counts().failed_rows,
                        book.counts().prompt_tokens, book.has_read_all() ? "" : "; others follow"));
}

// Rank 0's.
int end_job(const JobFiles& files, const Report& report, const Options& options, bool were_all_described) {
  const RowBook& book = *files.book;
  if (const std::optional<int> status = finish_output(*files.writer, book.num_rows(), book.is_input_whole()))
    return *status;
  if (!were_all_described) describe_rows(files, options.generate.truncate_prompt);
  const int status = conclude(report, options.files, SummaryRole::remark);
  book.require_whole_input();
  return status;
}

}  // namespace

int run_generate(MpiSession& session, const Options& options) {
  Communicator& ranks = session.communicator();
  const ModelFolder folder = open_model(options.model, ranks, ModelUse::generation);
  std::filesystem::path directory = folder.directory;
  ModelSpec model = folder.spec;
  JobFiles files;  // first: what is wrong with them must not come to light after a model has been compressed
  ranks.agree_on_error([&] {
    if (ranks.rank() == 0) files = open_job_files(options, directory, folder.spec);  // the book refers to it
  });
  if (const std::optional<int> status = conclude_if_complete(files.writer.get(), options.files, ranks)) return *status;
  if (const std::string& text = options.rows.quality_check; !text.empty())
    check_quality(session, options, text, directory, model);
  directory = save_compressed(options.model, options.policy.weight_format, directory, model, ranks);
  const bool are_all_known = !files.book || files.book->has_read_all();
  if (files.book) describe_rows(files, options.generate.truncate_prompt);

  const Report report = run_generate_job(session, options, directory, model, files.book.get());
  int status = static_cast<int>(ExitCode::ok);
  ranks.agree_on_error([&] {
    if (files.book) status = end_job(files, report, options, are_all_known);
  });
  return status;
}

}  // namespace flexgen
