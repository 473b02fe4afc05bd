#include <fmt/format.h>

#include <ctime>
#include <filesystem>

#include "app/commands.hpp"
#include "app/model_folder.hpp"
#include "app/model_text.hpp"
#include "app/quality_check.hpp"
#include "app/row_book.hpp"
#include "base/error.hpp"
#include "base/log.hpp"
#include "run/compressed_model.hpp"
#include "run/interrupt.hpp"
#include "run/run_job.hpp"

namespace flexgen {
namespace {

// What rank 0 alone has: tokenizer, rows in, rows out.
struct JobFiles {
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ResultWriter> writer;
  std::unique_ptr<RowBook> book;
};

JobFiles open_files(const Options& options, const std::filesystem::path& directory, const ModelSpec& model) {
  JobFiles files;
  files.tokenizer = std::make_unique<Tokenizer>(open_tokenizer(directory, model));
  RequestReader reader(options.rows.input, RequestDefaults{options.generate.gen_len});
  files.writer = std::make_unique<ResultWriter>(
      options.files.output, options.files.overwrite ? ExistingFile::overwrite : ExistingFile::refuse);
  remove_if_left_empty(files.writer->new_file());
  ResultFormat format{options.rows.return_token_ids, model.name, static_cast<std::int64_t>(std::time(nullptr))};
  if (files.tokenizer->is_none()) {
    format.return_token_ids = true;
    format.has_text = false;
    log::info("the model has no tokenizer files: rows of token ids run, and get token ids and no text");
  }
  files.book =
      std::make_unique<RowBook>(*files.tokenizer, model, *files.writer, format, options.generate.truncate_prompt);
  files.book->read(reader);
  if (const std::string unread = reader.describe_unread_fields(); !unread.empty()) log::info(unread);
  if (const std::size_t num_cut = files.book->num_cut(); num_cut > 0)
    log::info(fmt::format("{} row{} had a prompt that is too long for the model: it was cut on the {}", num_cut,
                          num_cut == 1 ? "" : "s",
                          options.generate.truncate_prompt == PromptCut::left ? "left" : "right"));
  return files;
}

}  // namespace

int run_generate(MpiSession& session, const Options& options) {
  Communicator& ranks = session.communicator();
  JobInput input;
  input.command = "generate";
  const ModelFolder folder = open_model(options.model, ranks, ModelUse::generation);
  std::filesystem::path directory = folder.directory;
  input.model = folder.spec;
  JobFiles files;  // first: what is wrong with them must not come to light after a model has been compressed
  ranks.agree_on_error([&] {
    if (ranks.rank() == 0) files = open_files(options, directory, folder.spec);  // the book refers to it
  });
  if (const std::string& text = options.rows.quality_check; !text.empty())
    check_quality(session, options, text, directory, input.model);
  directory = save_compressed(options.model, options.policy.weight_format, directory, input.model, ranks);
  input.make_source = [&]() -> std::shared_ptr<WeightSource> { return open_weights(directory, input.model); };

  std::unique_ptr<Progress> progress;
  if (ranks.rank() == 0) {
    RowBook& book = *files.book;
    input.shape = book.shape();
    input.rows = &book;
    log::info(fmt::format("{} rows, {} of them bad; {} prompt tokens", book.num_rows(), book.num_failed(),
                          book.num_prompt_tokens()));
    input.on_start = [&](const Policy& policy) {
      book.set_dtype(policy.dtype);
      files.writer->start();
      progress = Progress::to_stderr(book.num_rows(), book.max_new_tokens(), options.files.quiet);
      for (std::size_t i = 0; i < book.num_failed(); ++i) progress->add_row(true);
    };
    input.callbacks.on_token = [&](RowId id, std::int32_t token) {
      progress->add_tokens(1);
      return book.add_token(id, token);
    };
    input.callbacks.on_finished = [&](RowId id, FinishReason reason) {
      if (book.finish(id, reason)) progress->add_row(reason == FinishReason::not_a_number);
    };
    input.count_job = [&]() -> JobReport {
      return {book.num_rows(), book.num_failed(), book.num_sequences(), book.num_prompt_tokens(),
              book.num_generated_tokens()};
    };
  }

  const Report report = run_job(session, options, std::move(input));
  if (ranks.rank() != 0) return static_cast<int>(ExitCode::ok);
  progress->finish();
  files.writer->finish();
  return conclude(report, options.files, SummaryRole::remark);
}

}  // namespace flexgen
