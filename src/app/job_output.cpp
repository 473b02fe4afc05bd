#include "app/job_output.hpp"

#include <fmt/core.h>

#include "base/error.hpp"
#include "base/log.hpp"
#include "run/interrupt.hpp"
#include "run/job_identity.hpp"
#include "run/run_job.hpp"

namespace flexgen {
namespace {

const char* yes_or_no(bool value) { return value ? "yes" : "no"; }

void add_options(const Options& o, JobIdentity& identity) {
  identity["the command"] = o.command;
  identity["--return-token-ids"] = yes_or_no(o.rows.return_token_ids);
  identity["--preserve-order"] = yes_or_no(o.files.preserve_order);
  if (!o.files.error_file.empty()) identity["--error-file"] = o.files.error_file;
  if (o.command == "generate") {
    identity["--gen-len"] = std::to_string(o.generate.gen_len);
    identity["--truncate-prompt"] = prompt_cut_name(o.generate.truncate_prompt);
  } else {
    identity["--max-tokens"] = std::to_string(o.score.max_tokens);
    identity["--window"] = std::to_string(o.score.window);
    identity["--stride"] = std::to_string(o.score.stride);
  }
  if (o.generate.retry.pattern) identity["--retries-per-row"] = std::to_string(o.generate.retry.num_retries);
  for (const auto& [option, words] : o.rows.as_given) identity["--" + option] = words;
  add_numeric_policy(o.policy, identity);
}

/// None: what is read or written is gone when it has passed by.
std::optional<JobIdentity> identify(const Options& options, const std::filesystem::path& directory,
                                    const ModelSpec& model) {
  if (options.files.output == "-" || options.rows.inputs.paths.empty()) return std::nullopt;
  std::string inputs;
  for (const std::string& path : options.rows.inputs.paths) {
    const std::optional<std::string> content = describe_content(path);
    if (!content) return std::nullopt;
    inputs += (inputs.empty() ? "" : ", ") + *content;
  }
  JobIdentity identity{{"the input", inputs}, {"the model", describe_model(directory, model)}};
  add_options(options, identity);
  return identity;
}

/// "3 of 400 rows are done".
std::string describe_progress(std::uint64_t num_done, std::optional<std::uint64_t> num_rows) {
  if (num_rows) return fmt::format("{} of {} rows are done", num_done, *num_rows);
  return fmt::format("{} done; how many there are is not known, as the input was not read to its end",
                     num_done == 1 ? "1 row is" : fmt::format("{} rows are", num_done));
}

}  // namespace

std::unique_ptr<ResultWriter> open_output(const Options& options, const std::filesystem::path& directory,
                                          const ModelSpec& model) {
  const OutputFiles& files = options.files;
  OutputRequest request{files.output, files.error_file};
  request.existing = files.overwrite ? ExistingFile::overwrite : ExistingFile::refuse;
  request.order = files.preserve_order ? RowOrder::as_read : RowOrder::as_finished;
  request.sync = files.sync;
  request.flush = FlushRule::when_told;
  request.restart = files.restart;
  request.identity = identify(options, directory, model);
  auto writer = std::make_unique<ResultWriter>(std::move(request));
  if (!writer->has_journal() && !options.rows.inputs.paths.empty())
    log::info("no journal is kept: what comes from a pipe or goes to one cannot be gone on with");
  remove_if_left_empty(writer->new_file());
  return writer;
}

std::optional<int> conclude_if_complete(const ResultWriter* writer, const OutputFiles& files, Communicator& ranks) {
  const bool is_complete = writer != nullptr && writer->is_complete();
  if (ranks.broadcast(yes_or_no(is_complete)) == yes_or_no(false)) return std::nullopt;
  if (!writer) return static_cast<int>(ExitCode::ok);
  const RowTotals totals = writer->totals();
  return conclude_rows(totals.rows, totals.failed_rows, files);
}

std::optional<int> finish_output(ResultWriter& writer, std::optional<std::uint64_t> num_rows, bool is_input_whole) {
  const std::uint64_t done = writer.totals().rows;
  if (is_input_whole && (!stop_requested() || done == num_rows)) {
    writer.finish();
    return std::nullopt;
  }
  writer.pause();
  if (!stop_requested()) return std::nullopt;
  log::error("interrupted: " + describe_progress(done, num_rows) +
             (writer.has_journal() ? "; the same command goes on from there" : ""));
  return static_cast<int>(ExitCode::interrupted);
}

}  // namespace flexgen
