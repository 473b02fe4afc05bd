// flexgen-dist bench: the throughput of a model and policy on synthetic prompts.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "app/commands.hpp"
#include "app/job_lengths.hpp"
#include "base/error.hpp"
#include "base/log.hpp"
#include "job/live_counts.hpp"
#include "run/model/compressed_model.hpp"
#include "run/model/model_folder.hpp"
#include "run/rows/number_fault.hpp"
#include "run/rows/synthetic_rows.hpp"
#include "run/run_job.hpp"

namespace flexgen {
namespace {

RowsReport tally_lengths(const std::vector<RowLengths>& lengths) {
  RowTally tally;
  for (const RowLengths& row : lengths)
    tally.add_sequence(static_cast<std::uint64_t>(row.prompt), static_cast<std::uint64_t>(row.generated));
  return tally.report();
}

// The speed of a model that gives no numbers says nothing.
[[noreturn]] void refuse_numbers(DType dtype) {
  const NumberFault fault = number_fault(dtype);
  throw UserError(ExitCode::model, "this model cannot be measured", fault.reason, fault.suggestion);
}

}  // namespace

int run_bench(MpiSession& session, const Options& options) {
  Communicator& ranks = session.communicator();
  JobInput input;
  input.command = "bench";
  const ModelFolder folder =
      open_model(options.model, ranks, options.model.dummy ? ModelUse::shape : ModelUse::weights);
  std::filesystem::path directory = folder.directory;
  input.model = folder.spec;
  std::vector<RowLengths> lengths;  // rank 0's
  ranks.agree_on_error([&] {
    if (ranks.rank() == 0) lengths = choose_lengths(options, directory, input.model, ranks.size());
  });
  directory = save_compressed(options.model, options.policy.weight_format, directory, input.model, ranks);
  const JobShape shape = shape_of(lengths);
  input.make_source = [&]() -> std::shared_ptr<WeightSource> {
    return options.model.dummy ? make_random_source() : open_weights(directory, input.model);
  };
  std::optional<SyntheticRows> rows;
  LiveCounts counts;
  input.counts = &counts;
  DType dtype = DType::float32;
  if (ranks.rank() == 0) {
    rows.emplace(input.model.vocab, lengths, options.bench.shared_len);
    input.rows = &*rows;
    input.on_start = [&](const Policy& policy) {
      dtype = policy.dtype;
      counts.set_total_rows(lengths.size());
      counts.set_total_tokens(static_cast<std::uint64_t>(shape.new_tokens));
    };
    input.callbacks.on_token = [&](RowId, std::int32_t) {
      counts.add_tokens(1);
      return false;
    };
    input.callbacks.on_finished = [&](RowId, FinishReason reason) {
      if (reason == FinishReason::not_a_number) refuse_numbers(dtype);
      counts.add_row();
    };
    input.count_job = [&]() -> JobReport {
      return {lengths.size(), 0, lengths.size(), static_cast<std::uint64_t>(shape.prompt_tokens),
              static_cast<std::uint64_t>(shape.new_tokens)};
    };
  }

  Report report = run_job(session, options, input);
  int status = static_cast<int>(ExitCode::ok);
  ranks.agree_on_error([&] {
    if (ranks.rank() != 0) return;
    report.rows = tally_lengths(lengths);
    report.lengths = describe_lengths(lengths);
    report.lengths->seed = static_cast<std::uint64_t>(options.bench.seed);
    report.lengths->input = fmt::format("{}", fmt::join(options.rows.inputs.paths, " "));
    status = conclude(report, options.files, SummaryRole::result);
  });
  return status;
}

}  // namespace flexgen
