// flexgen-dist verify: a policy's tokens and scores beside those of a float32 reference, on rows of a job.
#include <fmt/core.h>
#include <unistd.h>

#include <optional>

#include "app/commands.hpp"
#include "base/error.hpp"
#include "base/log.hpp"
#include "job/file_descriptor.hpp"
#include "run/model/model_folder.hpp"
#include "run/model/model_text.hpp"
#include "run/verify/verify_job.hpp"

namespace flexgen {
namespace {

Sample open_sample(const Options& options, const ModelFolder& folder) {
  const Tokenizer tokenizer = open_tokenizer(folder.directory, folder.spec);
  RequestReader reader(options.rows.inputs, options.rows.defaults(options.generate.gen_len));
  Sample sample = read_sample(reader, {tokenizer, folder.spec, options.generate.truncate_prompt},
                              static_cast<std::size_t>(options.verify.num_rows), options.verify.seed);
  if (sample.num_bad_rows > 0)
    log::warn(fmt::format("{} row{} of --input cannot run, and {} left out: {}", sample.num_bad_rows,
                          sample.num_bad_rows == 1 ? "" : "s", sample.num_bad_rows == 1 ? "is" : "are",
                          sample.first_fault));
  return sample;
}

// The table is the command's result: it goes to standard output, unless the report does.
void show(const VerifyReport& report, const OutputFiles& files) {
  if (!files.quiet) write_fully(files.use_stdout() ? STDERR_FILENO : STDOUT_FILENO, verify_text(report));
  if (!files.report.empty()) write_verify_report(report, files.report);
  for (const std::string& reason : report.reasons) log::warn(fmt::format("the policy fails: {}", reason));
}

}  // namespace

int run_verify(MpiSession& session, const Options& options) {
  Communicator& ranks = session.communicator();
  const ModelFolder folder = open_model(options.model, ranks, ModelUse::generation);
  std::optional<Sample> sample;  // rank 0's
  ranks.agree_on_error([&] {
    if (ranks.rank() == 0) sample = open_sample(options, folder);
  });
  const VerifyReport report = verify_policy(session, options, {options.verify.max_perplexity_increase},
                                            folder.directory, folder.spec, sample ? &*sample : nullptr);
  ranks.agree_on_error([&] {
    if (sample) show(report, options.files);
  });
  const bool passes = ranks.broadcast(report.passes ? "yes" : "no") == "yes";
  return static_cast<int>(passes ? ExitCode::ok : ExitCode::rows_failed);
}

}  // namespace flexgen
