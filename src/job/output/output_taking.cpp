// How an output is taken: what an earlier run has left, and whether it is gone on with (output_store.hpp).
#include <fmt/chrono.h>
#include <fmt/core.h>

#include <algorithm>
#include <ctime>
#include <utility>

#include "base/error.hpp"
#include "base/log.hpp"
#include "job/output/output_store.hpp"

namespace flexgen {
namespace {

constexpr std::string_view overwrite_remedy = "Choose another output path, or give --overwrite";

bool is_filled(const OutputFile& file) { return file.bytes_found() > 0; }

/// "--gen-len was 32, is 64", for all that differ.
std::string differences(const JobIdentity& was, const JobIdentity& is) {
  std::string text;
  const auto add = [&](const std::string& name, std::string_view before, std::string_view now) {
    text += fmt::format("{}{} was {}, is {}", text.empty() ? "" : "; ", name, before, now);
  };
  for (const auto& [name, value] : was) {
    const auto found = is.find(name);
    if (found == is.end()) add(name, value, "not given");
    else if (found->second != value) add(name, value, found->second);
  }
  for (const auto& [name, value] : is)
    if (!was.contains(name)) add(name, "not given", value);
  return text;
}

std::string rows_text(std::uint64_t count) { return fmt::format("{} row{}", count, count == 1 ? "" : "s"); }

std::string done_text(std::uint64_t count) {
  return count == 0 ? "no row is done" : fmt::format("{} {} done", rows_text(count), count == 1 ? "is" : "are");
}

void tell(const EarlierRun& run) {
  const JournalState& state = run.state;
  const auto started = fmt::gmtime(static_cast<std::time_t>(state.head.created));
  if (state.is_complete)
    return log::info(
        fmt::format("the job of {:%Y-%m-%d %H:%M:%S} UTC is complete: its results, {}, stand in the output", started,
                    rows_text(state.totals.rows)));
  std::string text =
      fmt::format("going on with the job of {:%Y-%m-%d %H:%M:%S} UTC: {}", started, done_text(state.totals.rows));
  if (run.num_lost_rows > 0)
    text += fmt::format("; the line{} of {} had not reached the disk whole: {} done again",
                        run.num_lost_rows == 1 ? "" : "s", rows_text(run.num_lost_rows),
                        run.num_lost_rows == 1 ? "it is" : "they are");
  log::info(text);
}

}  // namespace

std::string journal_path(const std::string& output) { return end_of_links(output) + ".journal"; }

OutputStore::OutputStore(OutputRequest request) : request_(std::move(request)) {
  open_files();
  const bool is_named = std::ranges::all_of(files_, &OutputFile::is_named);
  const bool waits = is_ordered() || std::ranges::any_of(files_, [](const OutputFile& file) {
                       return file.packing() != Packing::none;
                     });
  try {
    if (request_.identity && is_named) journal_.emplace(journal_path(request_.path));
    else if (waits) journal_.emplace("");
    goes_on_ = journal_fd() >= 0 && use_earlier_run();
  } catch (const OutputFault& fault) {
    throw UserError(ExitCode::file, fmt::format("cannot write {}", files_.front().display_name()), fault.why,
                    fault.remedy);
  }
  num_safe_rows_ = state_.totals.rows;
  if (goes_on_) return;
  refuse_filled_files();
  state_.head.created = static_cast<std::int64_t>(std::time(nullptr));
  state_.head.identity = request_.identity.value_or(JobIdentity{});
}

void OutputStore::open_files() {
  files_.reserve(max_output_files);
  files_.emplace_back(request_.path, "--output");
  if (!request_.error_path.empty()) files_.emplace_back(request_.error_path, "--error-file");
}

void OutputStore::refuse_filled_files() const {
  for (const OutputFile& file : files_)
    if (is_filled(file) && request_.existing == ExistingFile::refuse)
      throw UserError(ExitCode::file, fmt::format("cannot write the output {}", file.display_name()),
                      "it exists and is not empty", overwrite_remedy);
}

/// False where this is a new job.
bool OutputStore::use_earlier_run() {
  const bool replaces = request_.existing == ExistingFile::overwrite;
  if (request_.restart) {
    request_.existing = ExistingFile::overwrite;  // it is the results' own journal that lies beside them
    return false;
  }
  std::array<std::string, max_output_files> paths;
  for (std::size_t i = 0; i < files_.size(); ++i) paths[i] = files_[i].path();
  EarlierRun run = read_earlier_run(journal_->text(), paths);
  if (is_without_results(run)) return false;
  if (!run.is_readable) {
    if (replaces) return false;
    throw UserError(ExitCode::file, fmt::format("cannot go on with {}", files_.front().display_name()),
                    fmt::format("its journal '{}' cannot be read", journal_->path()),
                    "Give --restart to begin anew, or choose another output path");
  }
  // Of a finished job others may make what they like: then it is a file like any other.
  if (run.state.is_complete && (replaces || !is_whole(run))) return false;
  refuse_other_job(run.state);
  if (!run.changed_file.empty())
    throw UserError(ExitCode::file, fmt::format("cannot go on with '{}'", run.changed_file),
                    "what an earlier run of the job wrote is no longer there, or was changed",
                    "Put it back as it was, or give --restart to begin anew");
  tell(run);
  state_ = std::move(run.state);
  return true;
}

/// Whoever takes away all that a job has made wants another one.
bool OutputStore::is_without_results(const EarlierRun& run) const {
  if (std::ranges::any_of(files_, is_filled)) return false;
  return !run.is_readable ||
         std::ranges::any_of(run.state.files, [](const FilePrefix& file) { return file.end_bytes > 0; }) ||
         !run.changed_file.empty();
}

bool OutputStore::is_whole(const EarlierRun& run) const {
  for (std::size_t i = 0; i < files_.size(); ++i)
    if (!files_[i].new_file().empty() || files_[i].bytes_found() != run.state.files[i].end_bytes) return false;
  return run.changed_file.empty();
}

void OutputStore::refuse_other_job(const JournalState& earlier) const {
  const std::string differing = differences(earlier.head.identity, *request_.identity);
  if (differing.empty()) return;
  const std::string& output = files_.front().display_name();
  if (earlier.is_complete)
    throw UserError(ExitCode::file, fmt::format("cannot write the output {}", output),
                    fmt::format("it exists and is not empty: it has the results of a job that differs: {}", differing),
                    overwrite_remedy);
  throw UserError(ExitCode::file, fmt::format("cannot go on with {}", output),
                  fmt::format("of its job {}, and this one differs: {}", done_text(earlier.totals.rows), differing),
                  "Give the files and options of the first start again, or --restart to begin anew");
}

void OutputStore::require(const std::string& name, const std::string& value) {
  const auto [found, is_new] = state_.head.found.emplace(name, value);
  if (is_new || found->second == value) return;
  throw UserError(ExitCode::file, fmt::format("cannot go on with {}", files_.front().display_name()),
                  fmt::format("{} was {}, is {}", name, found->second, value),
                  "Ask for what it was, or give --restart to begin anew");
}

bool OutputStore::admit(std::uint64_t ordinal) {
  const bool is_done = state_.done.contains(ordinal);
  if (!is_ordered() || (is_done && !state_.held.contains(ordinal))) return !is_done;
  order_.push_back(ordinal);
  return !is_done;
}

}  // namespace flexgen
